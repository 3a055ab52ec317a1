/** Ports of this machine, and servers. */
import { SGLangClient } from "../../client/mod.ts";
import { HttpError } from "../../errors.ts";
import { SGLangRouter } from "../../router/mod.ts";
import { broken, type Finding, fine, note } from "./finding.ts";
import { toldBy } from "../option_words.ts";
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

/** The keys with which servers are asked. */
export interface ServerCheckOptions {
  readonly apiKey?: string | undefined;
  readonly adminApiKey?: string | undefined;
  readonly caCerts?: readonly string[] | undefined;
  readonly proxy?: string | undefined;
  /** Variable that holds the key. */
  readonly keyName: string;
  readonly signal: AbortSignal;
}

/** Whether servers answer and take the keys, and what they are. */
export async function checkServers(
  urls: readonly string[],
  options: ServerCheckOptions,
): Promise<Finding[]> {
  const { apiKey, adminApiKey, caCerts, proxy, signal } = options;
  return await Promise.all(urls.map(async (url) => {
    const what = `server ${url}`;
    try {
      await using client = new SGLangClient({ url, apiKey, adminApiKey, caCerts, proxy });
      const info = await client.serverInfo({ timeoutMs: 5000, signal });
      const double = info.raw.test_double === undefined ? "" : ", a test double";
      const key = apiKey === undefined ? "" : `; takes the key of ${options.keyName}`;
      return fine(what, `SGLang ${info.version}${double}, ${info.modelPath}${key}`);
    } catch (error) {
      if (error instanceof HttpError && (error.status === 401 || error.status === 403)) {
        return broken(
          what,
          apiKey === undefined ? "wants a key" : `does not take the key of ${options.keyName}`,
          `set ${options.keyName} to its --api-key, or name another variable with --api-key-env`,
        );
      }
      return broken(what, toldBy("doctor", error), serverAdvice, error);
    }
  }));
}

const serverAdvice = "look at its log; a server takes a minute or more to start";

/** Whether a router answers, and the servers behind it. */
export async function checkRouter(
  url: string,
  options: Omit<ServerCheckOptions, "keyName">,
): Promise<{ findings: Finding[]; workers: string[] }> {
  const { apiKey, caCerts, proxy, signal } = options;
  const what = `router ${url}`;
  try {
    const router = SGLangRouter.connect(url, { apiKey, caCerts, proxy });
    const workers = await router.workers({ timeoutMs: 5000, signal });
    const urls = workers.map((worker) => worker.url);
    if (workers.length === 0) {
      const advice = "add servers to it, or start it with --worker-urls";
      return { findings: [broken(what, "has no server behind it", advice)], workers: [] };
    }
    const sick = workers.filter(({ isHealthy }) => !isHealthy);
    const finding = sick.length === 0
      ? fine(what, `sends requests to ${workers.length} server(s)`)
      : broken(
        what,
        `sends nothing to ${sick.map((worker) => worker.url).join(", ")}`,
        serverAdvice,
      );
    return { findings: [finding], workers: urls };
  } catch (error) {
    const finding = broken(
      what,
      toldBy("doctor", error),
      "is it a router, and does it run?",
      error,
    );
    return { findings: [finding], workers: [] };
  }
}
