import { plainSampling } from "../../_support/gateway_agents.ts";
import { EmbeddedServer, type EmbeddedServerOptions } from "../../../src/embedded/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { type GatewayOptions, RecordingGateway } from "../../../src/gateway/mod.ts";
import type { RolloutRow } from "../../../src/collector/mod.ts";
import type { LLMWrapperOptions } from "../../../src/policy/mod.ts";
import { type AnySGLangWrapper, SGLangWrapper } from "../../../src/policy/mod.ts";
import { tinyCheckpoint } from "../embedded/_support.ts";

/** A gateway before an embedded server. */
export interface Setup extends AsyncDisposable {
  readonly server: EmbeddedServer;
  readonly engine: AsyncSGLang;
  readonly policy: AnySGLangWrapper;
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
    policy: policyOptions = {
      generateKwargs: { maxNewTokens: 12, logitBias: plainSampling.logitBias },
    },
    server: given,
    ...gatewayOptions
  } = options;
  const stack = new AsyncDisposableStack();
  const model = await tinyCheckpoint({ dtype: "float32" });
  const server = stack.use(await EmbeddedServer.start({ model, seed: 1, ...given }));
  const engine = stack.use(await AsyncSGLang.connect(server.url));
  const policy = new SGLangWrapper(engine, policyOptions);
  const gateway = stack.use(await RecordingGateway.listen(policy, gatewayOptions));
  return { server, engine, policy, gateway, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/** The ids of a row: its prompt's and its answer's. */
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
