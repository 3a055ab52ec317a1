import { join } from "node:path";
import { EmbeddedServer, makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { AsyncSGLang, type ConnectOptions } from "../../../src/engine/mod.ts";
import { type SGLangWeightSender, SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { FakeClock } from "../../_support/clock.ts";

/** Ids that a checkpoint continues the prompt with, greedily: they tell which weights made them. */
export const PROMPT = { inputIds: [[1, 2, 3]] };
/** How the prompt is continued. */
export const GREEDY = { maxNewTokens: 4, temperature: 0, ignoreEos: true } as const;

let root: string | undefined;

/** Folder of a tiny checkpoint by its letter; `"a"` is what servers start with. */
export async function checkpoint(letter: "a" | "b" | "c"): Promise<string> {
  if (root === undefined) {
    root = await Deno.makeTempDir({ prefix: "sglang-rl-fleet-" });
    for (const [seed, name] of ["a", "b", "c"].entries()) {
      await makeTinyCheckpoint(join(root, name), { seed, dtype: "float32" });
    }
  }
  return join(root, letter);
}

Deno.test.afterAll(async () => {
  if (root !== undefined) await Deno.remove(root, { recursive: true });
  root = undefined;
});

/** Keeps what was logged. */
export function recordingLogger() {
  const warnings: string[] = [];
  return {
    warnings,
    debug() {},
    info() {},
    warn: (line: string) => void warnings.push(line),
    error: (line: string) => void warnings.push(line),
  };
}

/** Embedded servers, an engine that is connected to them, and a sender. */
export class TestFleet implements AsyncDisposable {
  readonly servers: EmbeddedServer[] = [];
  readonly clock = new FakeClock();
  readonly logger = recordingLogger();
  engine!: AsyncSGLang;
  sender!: SGLangWeightSender;

  /** Starts `count` servers on checkpoint a and connects. */
  static async start(
    count: number,
    options: ConnectOptions & {
      version?: "0.5.16" | "0.5.23";
      whenUnreachable?: "skip" | "throw";
      whenMissed?: "keep_paused" | "resume";
    } = {},
  ): Promise<TestFleet> {
    const fleet = new TestFleet();
    const { version = "0.5.23", whenUnreachable, whenMissed, ...engineOptions } = options;
    for (let i = 0; i < count; i++) fleet.servers.push(await fleet.startServer(version));
    fleet.engine = await AsyncSGLang.connect(fleet.servers.map(({ url }) => url), {
      logger: fleet.logger,
      clock: fleet.clock,
      retry: { retries: 0 },
      ...engineOptions,
    });
    fleet.sender = new SGLangWeightSyncScheme({
      engine: fleet.engine,
      ...(whenUnreachable === undefined ? {} : { whenUnreachable }),
      ...(whenMissed === undefined ? {} : { whenMissed }),
    }).createSender();
    await fleet.sender.initAllWorkersGroup();
    return fleet;
  }

  /** A server on checkpoint a. */
  async startServer(version: "0.5.16" | "0.5.23" = "0.5.23", port = 0): Promise<EmbeddedServer> {
    return await EmbeddedServer.start({ model: await checkpoint("a"), version, port });
  }

  /** Kills a server and starts it again on its port, with the weights it was launched with. */
  async restart(index: number, version: "0.5.16" | "0.5.23" = "0.5.23"): Promise<EmbeddedServer> {
    const port = Number(new URL(this.servers[index]!.url).port);
    await this.kill(index);
    return this.servers[index] = await this.startServer(version, port);
  }

  /** Kills a server. */
  async kill(index: number): Promise<void> {
    this.servers[index]!.crash();
    await this.servers[index]!.close();
  }

  /** The states of the engine's servers. */
  get states(): string[] {
    return this.engine.workers.map(({ state }) => state);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.sender?.close();
    await this.engine?.shutdown();
    await Promise.all(this.servers.map((server) => server.close()));
  }
}

/**
 * Who answered, and from which weights: equal prompts, and more at once than one server may have for
 * the sake of its cache.
 */
export async function answers(engine: AsyncSGLang, count = 24): Promise<Map<string, string>> {
  const samples = await Promise.all(
    Array.from({ length: count }, () => engine.generate(PROMPT, { ...GREEDY, n: 1 })),
  );
  return new Map(
    samples.flat().map((one) => [`${one.server} ${one.weightVersion}`, one.ids.join()]),
  );
}
