/** A torch process that is a rank of an NCCL group, driven over its stdin. */
import { readLines } from "../../../src/internal/lines.ts";

/** What a peer may answer. */
export interface PeerAnswer {
  readonly error?: string;
  readonly ready?: number[];
  readonly sha256?: string[];
  readonly seconds?: number;
}

const script = new URL("./peer.py", import.meta.url).pathname;

/** The Python that has torch. */
export const python = Deno.env.get("GPU_PYTHON") ?? "python3";

/** A torch process. */
export class TorchPeer implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #answers: AsyncGenerator<string>;

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#input = child.stdin.getWriter();
    this.#answers = readLines(child.stdout);
  }

  /**
   * Starts a process; several may start at once. Ranks that share a GPU need a host id each; `null`
   * leaves NCCL its own, so that ranks of one host find each other over NVLink or P2P.
   */
  static async start(
    env: Record<string, string> = {},
    hostId: string | null = "peer",
  ): Promise<TorchPeer> {
    const child = new Deno.Command(python, {
      args: ["-B", "-W", "ignore", script],
      env: {
        ...(hostId === null ? {} : { NCCL_HOSTID: hostId }),
        NCCL_DEBUG: "WARN",
        NCCL_CUMEM_ENABLE: "0",
        ...env,
      },
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const peer = new TorchPeer(child);
    await peer.answer();
    return peer;
  }

  /** Sends a command and waits for its answer. */
  async ask(command: Record<string, unknown>): Promise<PeerAnswer> {
    await this.tell(command);
    return await this.answer();
  }

  /** Sends a command. */
  async tell(command: Record<string, unknown>): Promise<void> {
    await this.#input.write(new TextEncoder().encode(`${JSON.stringify(command)}\n`));
  }

  /** The next answer. NCCL's own lines on stdout are passed over. */
  async answer(): Promise<PeerAnswer> {
    for (;;) {
      const { done, value } = await this.#answers.next();
      if (done) throw new Error("The peer has ended");
      if (value.startsWith("{")) return JSON.parse(value);
    }
  }

  /** Joins a group as the given rank. */
  join(port: number, group: string, place = { rank: 1, world: 2 }): Promise<PeerAnswer> {
    return this.ask({ cmd: "join", port, group, ...place });
  }

  /** Kills the process without warning. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.status;
  }

  /** How the process ended. */
  get status(): Promise<Deno.CommandStatus> {
    return this.#child.status;
  }

  /** Ends the process. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    await this.#input.abort().catch(() => {});
    await this.#child.status;
    await this.#answers.return(undefined);
  }
}
