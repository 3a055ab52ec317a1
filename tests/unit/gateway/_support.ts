import { join } from "node:path";
import { plainSampling } from "../../_support/gateway_agents.ts";
import {
  EmbeddedServer,
  type EmbeddedServerOptions,
  makeTinyCheckpoint,
} from "../../../src/embedded/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { type GatewayOptions, RecordingGateway } from "../../../src/gateway/mod.ts";
import type { RolloutRow } from "../../../src/collector/mod.ts";
import type { AnswerReader } from "../../../src/policy/chat.ts";
import type { LLMWrapperOptions } from "../../../src/policy/mod.ts";
import { SGLangWrapper } from "../../../src/policy/mod.ts";

let root: string | undefined;

/** Folder of a tiny checkpoint; made once, gone after the file's tests. */
export async function tinyFolder(): Promise<string> {
  if (root === undefined) {
    root = await Deno.makeTempDir({ prefix: "sglang-rl-gateway-" });
    await makeTinyCheckpoint(join(root, "tiny"), { seed: 0, dtype: "float32" });
  }
  return join(root, "tiny");
}

Deno.test.afterAll(async () => {
  if (root !== undefined) await Deno.remove(root, { recursive: true });
  root = undefined;
});

/** A gateway before an embedded server. */
export interface Setup extends AsyncDisposable {
  readonly server: EmbeddedServer;
  readonly engine: AsyncSGLang;
  readonly gateway: RecordingGateway;
}

/** Starts one; `policy` has no limit on new tokens but its own. */
export async function setup(
  options: GatewayOptions & {
    readonly policy?: LLMWrapperOptions;
    readonly server?: Partial<EmbeddedServerOptions>;
  } = {},
): Promise<Setup> {
  const {
    policy = { generateKwargs: { maxNewTokens: 12, logitBias: plainSampling.logitBias } },
    server: given,
    ...gatewayOptions
  } = options;
  const stack = new AsyncDisposableStack();
  const server = stack.use(
    await EmbeddedServer.start({ model: await tinyFolder(), seed: 1, ...given }),
  );
  const engine = stack.use(await AsyncSGLang.connect(server.url));
  const wrapper = new SGLangWrapper(engine, policy);
  const gateway = stack.use(await RecordingGateway.listen(wrapper, gatewayOptions));
  return { server, engine, gateway, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/**
 * Reads answers as calls of tools, as a script has it. The tiny model writes nonsense: its ids and
 * log-probabilities are real, what they are taken for is told here. An answer past the script's end
 * is what it is.
 */
export function scriptedReader(
  script: readonly (readonly { name: string; arguments: unknown }[])[],
): AnswerReader {
  const known = new Map<string, readonly { name: string; arguments: unknown }[]>();
  const rest = [...script];
  return (text) => {
    // An answer is read as the server shows it, and with its special tokens: that is one answer.
    const key = text.replaceAll(/<\|[^|]*\|>|\ufffd/g, "").trim();
    if (!known.has(key)) known.set(key, rest.shift() ?? []);
    const calls = known.get(key)!;
    return { reasoning: null, content: calls.length === 0 ? text : "", calls, faults: [] };
  };
}

/** What must hold of all rows: each turn's prompt begins with its branch, nothing has two values. */
export function idsOf(row: RolloutRow): number[] {
  return [...row.promptIds!, ...row.responseIds];
}

/** Resolves when an engine is told to abort something. */
export function whenAborted(engine: AsyncSGLang): Promise<void> {
  return new Promise((resolve) => {
    const abort = engine.abort.bind(engine);
    engine.abort = (...args) => {
      resolve();
      return abort(...args);
    };
  });
}
