/**
 * A follower as a program of its own, one file beside each server host:
 *
 *     deno task build:follower
 *     dist/sglang-rl-follow --store http://trainer:8000/store --folder /models/policy \
 *       --server http://127.0.0.1:30000
 *
 * The server's key is read from SGLANG_API_KEY. It ends with Ctrl-C.
 *
 * @module
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { grantedEnv } from "../internal/permission.ts";
import { Follower } from "./follower.ts";

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      store: { type: "string" },
      folder: { type: "string" },
      server: { type: "string" },
      poll: { type: "string", default: "1000" },
      once: { type: "boolean", default: false },
    },
  });
  if (values.store === undefined || values.folder === undefined) {
    console.error(
      "usage: sglang-rl-follow --store PLACE --folder FOLDER [--server URL] [--poll MS] [--once]",
    );
    Deno.exit(2);
  }
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => stop.abort(new Error(signal)));
  }
  const say = (line: string) => console.error(line);
  const follower = new Follower({
    store: values.store,
    folder: values.folder,
    serverUrl: values.server,
    pollMs: Number(values.poll),
    sync: { apiKey: grantedEnv("SGLANG_API_KEY") },
    logger: { debug() {}, info: say, warn: say, error: say },
  });
  if (values.once) {
    const report = await follower.update({ signal: stop.signal });
    console.log(JSON.stringify(report ?? null));
    Deno.exit(0);
  }
  for await (const { sync: _, ...report } of follower.run({ signal: stop.signal })) {
    console.log(JSON.stringify(report));
  }
  Deno.exit(0);
}
