/** Where the demo's servers come from. */
import { join } from "node:path";
import { AsyncSGLang } from "@sglang-rl/sglang-rl";
import { EmbeddedServer, makeTinyCheckpoint } from "@sglang-rl/sglang-rl/testing";
import {
  environmentName,
  routerEnvironmentName,
  sglangHome,
} from "../../scripts/sglang_cpu/home.ts";
import { setUp } from "../../scripts/sglang_cpu/set_up.ts";
import type { Screen } from "./screen.ts";

/** Servers to generate with. */
export interface Fleet extends AsyncDisposable {
  /** What they are, in words. */
  readonly title: string;
  readonly engine: AsyncSGLang;
  /** Folder of the weights to push; `null` to push none. */
  readonly nextWeights: string | null;
  /** Whether the demo knows the checkpoints, so that an embedded server can check the output. */
  readonly isTiny: boolean;
}

/** Two checkpoints that a trainer might have written: the same shapes, other weights. */
export async function writeCheckpoints(folder: string): Promise<{ first: string; next: string }> {
  const first = join(folder, "step-0");
  const next = join(folder, "step-1");
  await makeTinyCheckpoint(first, { seed: 0 });
  await makeTinyCheckpoint(next, { seed: 1 });
  return { first, next };
}

/** Two embedded servers in this process. */
export async function embeddedFleet(folder: string, screen: Screen): Promise<Fleet> {
  const { first, next } = await writeCheckpoints(folder);
  screen.done("two checkpoints written", folder);
  await using stack = new AsyncDisposableStack();
  const urls: string[] = [];
  for (let i = 0; i < 2; i++) {
    const server = await EmbeddedServer.start({ model: first, maxRunningRequests: 32 });
    stack.use(server);
    urls.push(server.url);
  }
  const engine = stack.use(await AsyncSGLang.connect(urls));
  const owned = stack.move();
  return {
    title: "two embedded servers, a test double of SGLang in this process",
    engine,
    nextWeights: next,
    isTiny: true,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Two real SGLang servers on the CPU behind the real router. */
export async function realFleet(
  folder: string,
  options: { screen: Screen; signal: AbortSignal },
): Promise<Fleet> {
  const { screen, signal } = options;
  const home = sglangHome();
  await setUp({
    versions: ["0.5.16"],
    home,
    say: (line) => screen.note(line),
    signal,
  });
  screen.done("SGLang for the CPU is installed", home);
  const { first, next } = await writeCheckpoints(folder);
  const python = (environment: string) => join(home, environment, "bin", "python");
  const engine = await AsyncSGLang.fromPretrained(first, {
    numReplicas: 2,
    device: "cpu",
    dtype: "float32",
    maxTotalTokens: 8192,
    python: python(environmentName("0.5.16")),
    router: { python: python(routerEnvironmentName) },
    onProgress: ({ elapsedMs, lastLine = "" }) =>
      screen.progress(`servers start, ${(elapsedMs / 1000).toFixed(0)} s: ${lastLine}`),
    signal,
  });
  return {
    title: "two real SGLang servers on the CPU behind the SGLang router",
    engine,
    nextWeights: next,
    isTiny: true,
    [Symbol.asyncDispose]: () => engine.shutdown(),
  };
}

/** Running servers of the user's. */
export async function givenFleet(
  urls: readonly string[],
  options: { sync: string | null; signal: AbortSignal },
): Promise<Fleet> {
  const apiKey = Deno.env.get("SGLANG_API_KEY");
  const engine = await AsyncSGLang.connect(urls, { apiKey, signal: options.signal });
  return {
    title: `the servers at ${urls.join(", ")}`,
    engine,
    nextWeights: options.sync,
    isTiny: false,
    [Symbol.asyncDispose]: () => engine.shutdown(),
  };
}
