/**
 * One use of each entry point. As a program it does the uses that it is told, with the permissions
 * that it was started with, and prints for each how it ended.
 */
import { join } from "node:path";

/** What the uses work on. */
export interface Places {
  /** Address of an embedded server that serves `checkpoint`. */
  readonly server: string;
  /** Folder of a checkpoint. */
  readonly checkpoint: string;
  /** Folder to write to. */
  readonly output: string;
  /** Python that has stand-ins for SGLang and its router in `pythonPath`. */
  readonly python: string;
  /** Folder of the stand-ins. */
  readonly pythonPath: string;
  /** A free port. */
  readonly port: number;
}

/** How a use ended. */
export interface Outcome {
  /** `null` when it worked. */
  readonly error: string | null;
  /** `flag` of a `PermissionError`, wherever in the chain of causes it is. */
  readonly flag: string | null;
  /** Every message of the chain, in lines. */
  readonly message: string;
}

const sample = { maxNewTokens: 2, temperature: 0 } as const;

async function push(
  places: Places,
  how: { transport: "gloo" } | { transport: "disk"; disk?: { folder: string } },
): Promise<void> {
  const { safetensors } = await import("../../../src/weights/source/mod.ts");
  const { SGLangWeightSyncScheme } = await import("../../../src/weights/mod.ts");
  const scheme = new SGLangWeightSyncScheme({
    serverUrl: places.server,
    ...how,
  });
  await using sender = scheme.createSender();
  sender.registerModel(safetensors(places.checkpoint));
  await sender.initAllWorkersGroup();
  await sender.updateWeights();
}

/** The uses, by name. Each imports what it needs, which needs no permission. */
export const uses = {
  async client({ server }) {
    const { SGLangClient } = await import("../../../src/client/mod.ts");
    await using client = new SGLangClient({ url: server });
    await client.generate({ text: "Hi", samplingParams: sample });
  },
  async connect({ server }) {
    const { AsyncSGLang } = await import("../../../src/engine/mod.ts");
    await using engine = await AsyncSGLang.connect(server);
    await engine.generate(["Hi", "Go"], { ...sample, returnLogProbs: true });
  },
  async routerWorkers({ server }) {
    const { SGLangRouter } = await import("../../../src/router/mod.ts");
    await using router = SGLangRouter.connect(server);
    // The embedded server is no router: that it answers is all that is asked.
    await router.workers().catch((error) => {
      if (error.name !== "HttpError") throw error;
    });
  },
  async wrapper({ server }) {
    const { SGLangWrapper } = await import("../../../src/policy/mod.ts");
    await using policy = new SGLangWrapper(server, {
      inputMode: "text",
      generateKwargs: sample,
    });
    await policy.call({ text: { prompt: ["Hi"] } });
  },
  async localTokenizer({ server, checkpoint }) {
    const { SGLangWrapper } = await import("../../../src/policy/mod.ts");
    await using policy = new SGLangWrapper(server, {
      tokenizer: checkpoint,
      generateKwargs: sample,
    });
    await policy.call({ history: [{ role: "user", content: "Hi" }] });
  },
  async collector({ server }) {
    const { LLMCollector } = await import("../../../src/collector/mod.ts");
    const { promptEnvironment } = await import("../../../src/collector/environments/mod.ts");
    const { AsyncSGLang } = await import("../../../src/engine/mod.ts");
    const { SGLangWrapper } = await import("../../../src/policy/mod.ts");
    await using engine = await AsyncSGLang.connect(server);
    const policy = new SGLangWrapper(engine, { generateKwargs: sample });
    const environment = promptEnvironment({ prompts: ["Hi"], reward: () => 1 });
    await using collector = new LLMCollector(environment, { policy, dialogTurnsPerBatch: 1 });
    await collector.rollout();
  },
  async modelMetadata({ server }) {
    const { AsyncSGLang } = await import("../../../src/engine/mod.ts");
    await using engine = await AsyncSGLang.connect(server);
    await engine.getModelMetadata();
  },
  gloo: (places) => push(places, { transport: "gloo" }),
  diskOfTheCheckpoint: (places) => push(places, { transport: "disk" }),
  diskWritten: (places) => push(places, { transport: "disk", disk: { folder: places.output } }),
  async nccl({ port }) {
    const { NcclGroup } = await import("../../../ffi/mod.ts");
    const { TCPStoreServer } = await import("../../../src/rendezvous/mod.ts");
    await using store = TCPStoreServer.listen({ port });
    const libraries = { nccl: "/nowhere/libnccl.so.2", cudart: "/nowhere/libcudart.so.12" };
    const group = { store, worldSize: 2, groupName: "g", libraries };
    await using _opened = await NcclGroup.open(group);
  },
  async managedServer({ python, pythonPath: PYTHONPATH }) {
    const { makeSGLangServer } = await import("../../../src/server/mod.ts");
    const options = { model: "m", python, env: { PYTHONPATH }, stopGraceMs: 100 };
    await using _server = await makeSGLangServer(options);
  },
  async managedRouter({ python, pythonPath: PYTHONPATH }) {
    const { SGLangRouter } = await import("../../../src/router/mod.ts");
    const options = { workers: [], python, env: { PYTHONPATH }, stopGraceMs: 100 };
    await using _router = await SGLangRouter.launch(options);
  },
  async readCheckpoint({ checkpoint }) {
    const { openCheckpoint } = await import("../../../src/checkpoint/mod.ts");
    await using _opened = await openCheckpoint(checkpoint);
  },
  async writeCheckpoint({ output }) {
    const { writeSafetensors } = await import("../../../src/checkpoint/mod.ts");
    const data = new Uint8Array(4);
    await writeSafetensors(join(output, "own.safetensors"), [
      { name: "w", dtype: "float32", shape: [1], data },
    ]);
  },
  async tinyCheckpoint({ output }) {
    const { makeTinyCheckpoint } = await import("../../../src/embedded/mod.ts");
    await makeTinyCheckpoint(join(output, "tiny"));
  },
  async embeddedServer({ checkpoint }) {
    const { EmbeddedServer } = await import("../../../src/embedded/mod.ts");
    await using _server = await EmbeddedServer.start({ model: checkpoint });
  },
  async store({ port }) {
    const { TCPStoreClient, TCPStoreServer } = await import("../../../src/rendezvous/mod.ts");
    await using _store = TCPStoreServer.listen({ port });
    await using _client = await TCPStoreClient.connect({ hostname: "127.0.0.1", port });
  },
  async openPort() {
    const { getOpenPort } = await import("../../../src/process/mod.ts");
    getOpenPort();
  },
} as const satisfies Record<string, (places: Places) => Promise<void>>;

/** Name of a use. */
export type UseName = keyof typeof uses;

function outcomeOf(error: unknown): Outcome {
  let flag: string | null = null;
  const messages: string[] = [];
  for (let link = error; link instanceof Error; link = link.cause) {
    messages.push(`${link.name}: ${link.message}`);
    if (link.name === "PermissionError") flag ??= (link as Error & { flag: string }).flag;
  }
  return { error: (error as Error).name, flag, message: messages.join("\n") };
}

if (import.meta.main) {
  const [places, ...names] = Deno.args as [string, ...UseName[]];
  const outcomes: Record<string, Outcome> = {};
  for (const name of names) {
    outcomes[name] = await uses[name](JSON.parse(places)).then(
      () => ({ error: null, flag: null, message: "" }),
      outcomeOf,
    );
  }
  Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(outcomes)));
}
