import { LLMCollector, type RolloutBatch } from "../../../src/collector/mod.ts";
import { EnvironmentPool, promptEnvironment } from "../../../src/collector/environments/mod.ts";
import { EmbeddedServer, makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { SGLangWrapper } from "../../../src/policy/mod.ts";
import { safetensors, type WeightSource } from "../../../src/weights/source/mod.ts";
import { type SGLangWeightSender, SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";

/** A small run of training: two servers, groups of two dialogs, a sync. */
export interface Training extends AsyncDisposable {
  readonly engine: AsyncSGLang;
  readonly collector: LLMCollector<RolloutBatch>;
  readonly sender: SGLangWeightSender;
  readonly servers: readonly EmbeddedServer[];
  /** Folder of the model. */
  readonly model: string;
  /** Weights to sync. */
  readonly weights: WeightSource;
  /** One batch, then a sync. */
  step(): Promise<void>;
}

/** What a monitor watches of it. */
export function watchedOf({ engine, collector, sender }: Training) {
  return { engine, collector, sender };
}

/** Sets a run up; what it owns ends with it. */
export async function openTraining(): Promise<Training> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryFolder());
  const model = `${folder.path}/model`;
  await makeTinyCheckpoint(model);
  const servers = [
    stack.use(await EmbeddedServer.start({ model, version: "0.5.23" })),
    stack.use(await EmbeddedServer.start({ model, version: "0.5.23" })),
  ];
  const engine = stack.use(await AsyncSGLang.connect(servers.map(({ url }) => url)));
  const policy = new SGLangWrapper(engine, {
    generateKwargs: { maxNewTokens: 4 },
  });
  const collector = stack.use(
    new LLMCollector(
      new EnvironmentPool(
        () => promptEnvironment({ prompts: ["Hi", "Go"], reward: ({ ids }) => ids.length }),
        { size: 4 },
      ),
      { policy, dialogTurnsPerBatch: 4, groupSize: 2, trackPolicyVersion: true },
    ),
  );
  const sender = stack.use(
    new SGLangWeightSyncScheme({ engine }).createSender(),
  );
  sender.registerCollector(collector);
  await sender.initAllWorkersGroup();
  const weights = safetensors(model);
  const owned = stack.move();
  return {
    engine,
    collector,
    sender,
    servers,
    model,
    weights,
    async step() {
      await collector.rollout();
      await sender.updateWeights(weights);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
