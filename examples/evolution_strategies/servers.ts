/** Where the servers of the example come from. */
import { join } from "node:path";
import { AsyncSGLang } from "@sglang-rl/sglang-rl";
import { EmbeddedServer, makeTinyCheckpoint } from "@sglang-rl/sglang-rl/testing";
import { environmentName, sglangHome } from "../../scripts/sglang_cpu/home.ts";

/** Which servers to use. */
export type ServerKind = "embedded" | "real" | "gpu";

/** An engine and the checkpoint that its servers began with. */
export interface Servers extends AsyncDisposable {
  readonly engine: AsyncSGLang;
  /** Folder of the checkpoint. */
  readonly model: string;
}

/** Starts a server, or connects to the ones at `urls`, which serve `model`. */
export async function openServers(
  kind: ServerKind,
  options: {
    urls: readonly string[];
    model?: string | undefined;
    /** The same prompt gives the same answer; of the embedded server. */
    deterministic?: boolean | undefined;
    signal: AbortSignal;
  },
): Promise<Servers> {
  const { urls, signal } = options;
  await using stack = new AsyncDisposableStack();
  const model = options.model ?? await tinyModel(stack);
  if (urls.length > 0) {
    return owned(stack, stack.use(await AsyncSGLang.connect(urls, { signal })), model);
  }
  if (kind === "embedded") {
    const { deterministic: enableDeterministicInference } = options;
    const server = stack.use(
      await EmbeddedServer.start({ model, seed: 1, enableDeterministicInference }),
    );
    return owned(stack, stack.use(await AsyncSGLang.connect(server.url, { signal })), model);
  }
  const python = join(sglangHome(), environmentName("0.5.16"), "bin", "python");
  const launch = kind === "gpu"
    ? { device: "cuda" as const }
    : { device: "cpu" as const, dtype: "float32", maxTotalTokens: 8192, python };
  return owned(
    stack,
    stack.use(await AsyncSGLang.fromPretrained(model, { ...launch, signal })),
    model,
  );
}

async function tinyModel(stack: AsyncDisposableStack): Promise<string> {
  const folder = await Deno.makeTempDir({ prefix: "evolution-strategies-" });
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  await makeTinyCheckpoint(folder, { seed: 0, dtype: "float32" });
  return folder;
}

function owned(stack: AsyncDisposableStack, engine: AsyncSGLang, model: string): Servers {
  const all = stack.move();
  return { engine, model, [Symbol.asyncDispose]: () => all.disposeAsync() };
}
