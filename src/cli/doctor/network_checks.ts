/** Ports of this machine, and servers. */
import { SGLangClient } from "../../client/mod.ts";
import { broken, type Finding, fine, note } from "./finding.ts";
import { messageOf } from "../../internal/thrown.ts";

/** Highest port that SGLang takes, as some versions use a port 10,000 above it. */
const highestPort = 55_535;

/** Whether ports are free. */
export function checkPorts(ports: readonly number[]): Finding[] {
  return ports.map((port) => {
    const what = `port ${port}`;
    if (port > highestPort) {
      return broken(what, "too high for SGLang", `take one of at most ${highestPort}`);
    }
    try {
      Deno.listen({ hostname: "127.0.0.1", port }).close();
      return fine(what, "free");
    } catch (error) {
      if (error instanceof Deno.errors.AddrInUse) {
        return note(what, "in use", "somebody serves there already; serve takes a free one");
      }
      if (error instanceof Deno.errors.NotCapable) {
        return note(what, "may not be tried", `add --allow-net=127.0.0.1:${port}`);
      }
      return broken(what, messageOf(error), "take another");
    }
  });
}

/** Whether servers answer, and what they are. */
export async function checkServers(
  urls: readonly string[],
  signal: AbortSignal,
): Promise<Finding[]> {
  return await Promise.all(urls.map(async (url) => {
    try {
      await using client = new SGLangClient({ url });
      const info = await client.serverInfo({ timeoutMs: 5000, signal });
      const double = info.raw.test_double === undefined ? "" : ", a test double";
      return fine(`server ${url}`, `SGLang ${info.version}${double}, ${info.modelPath}`);
    } catch (error) {
      return broken(
        `server ${url}`,
        messageOf(error),
        "look at its log; a server takes a minute or more to start",
      );
    }
  }));
}
