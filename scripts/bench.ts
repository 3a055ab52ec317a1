/**
 * Runs the benchmarks of bench/, one after the other, against two real servers: those of the
 * variable SGLANG_RL_SERVERS, else own ones, set up when they are not there and ended afterwards.
 *
 * Run as `deno task bench [NAME...]`, for example `deno task bench client`.
 */
// deno-lint-ignore-file no-console
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { sharedVariables, startRealServer } from "../tests/_support/real.ts";
import { sglangHome } from "./sglang_cpu/home.ts";
import { setUp } from "./sglang_cpu/set_up.ts";

const folder = fileURLToPath(new URL("../bench/", import.meta.url));
/** Files that a benchmark starts by itself. */
const helpers = new Set(["client_server"]);

async function benchmarks(): Promise<string[]> {
  const files = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
  return files.filter((file) => file.endsWith(".ts")).map((file) => basename(file, ".ts"))
    .filter((name) => !helpers.has(name)).sort();
}

async function runAll(names: readonly string[]): Promise<boolean> {
  const stop = new AbortController();
  Deno.addSignalListener("SIGINT", () => stop.abort(new Error("interrupted")));
  await using stack = new AsyncDisposableStack();
  let servers = Deno.env.get(sharedVariables.servers);
  if (servers === undefined) {
    await setUp({
      versions: ["0.5.16"],
      home: sglangHome(),
      say: (line) => console.error(line),
      signal: stop.signal,
    });
    console.error("starting two servers (about a minute)");
    const urls: string[] = [];
    for (let i = 0; i < 2; i++) {
      const server = stack.use(await startRealServer({ signal: stop.signal }));
      urls.push(server.url);
    }
    servers = urls.join(",");
  }
  let isGood = true;
  for (const name of names) {
    console.log(`\n=== bench/${name}.ts`);
    const { success } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", `${folder}${name}.ts`],
      env: { [sharedVariables.servers]: servers },
      signal: stop.signal,
    }).spawn().status;
    isGood &&= success;
  }
  return isGood;
}

const known = await benchmarks();
const names = Deno.args.length > 0 ? Deno.args : known;
const unknown = names.filter((name) => !known.includes(name));
if (unknown.length > 0) {
  console.error(`No benchmark ${unknown.join(", ")}; there are ${known.join(", ")}`);
  Deno.exit(2);
}
Deno.exit(await runAll(names) ? 0 : 1);
