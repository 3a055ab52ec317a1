/** Two servers of a test's own, one of each version, whose weights it changes. */
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import type { SGLangServer } from "../../../src/server/mod.ts";
import { modelPath, startRealServer } from "../../_support/real.ts";

/** What the servers run, in the order of {@linkcode OwnServers.engines}. */
export const versions = ["0.5.16", "0.5.23"] as const;

/** The servers as engines. */
export class OwnServers implements AsyncDisposable {
  readonly engines: readonly AsyncSGLang[];
  readonly #servers: readonly SGLangServer[];

  private constructor(engines: readonly AsyncSGLang[], servers: readonly SGLangServer[]) {
    this.engines = engines;
    this.#servers = servers;
  }

  /** Starts them with the model `tiny`, or takes those that SGLANG_RL_OWN_SERVERS names. */
  static async start(): Promise<OwnServers> {
    const given = Deno.env.get("SGLANG_RL_OWN_SERVERS")?.split(",");
    const servers = given === undefined
      ? await Promise.all(versions.map((version) => startRealServer({ version })))
      : [];
    const urls = given ?? servers.map(({ url }) => url);
    const engines = await Promise.all(urls.map((url) => AsyncSGLang.connect(url)));
    const own = new OwnServers(engines, servers);
    await own.restore();
    return own;
  }

  /** Gives the servers their checkpoint back. */
  async restore(): Promise<void> {
    for (const { workers } of this.engines) {
      for (const { client } of workers) await client.updateWeightsFromDisk(modelPath("tiny"));
    }
  }

  /** Ends them. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.restore();
    await Promise.all(this.engines.map((engine) => engine.shutdown()));
    await Promise.all(this.#servers.map((server) => server[Symbol.asyncDispose]()));
  }
}
