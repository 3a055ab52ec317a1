/** A trainer that says just what a test tells it to. */
import { createHmac } from "node:crypto";
import { tensorSizeBytes } from "../../src/checkpoint/dtype.ts";
import type { WeightSource } from "../../src/weights/source/mod.ts";
import { encodeHead, encodeMessage, FrameKind, FrameReader } from "../../src/trainer/frames.ts";
import { seeded } from "./seeded.ts";

/** What it was told. */
export type Told = Record<string, unknown> & { readonly type: string };

/** A connection to a link at `tcp:…`. */
export class RawTrainer implements Disposable {
  readonly #socket: Deno.TcpConn;
  readonly #reader: FrameReader;

  private constructor(socket: Deno.TcpConn) {
    this.#socket = socket;
    this.#reader = new FrameReader(socket, "the link");
  }

  static async connect(address: string): Promise<RawTrainer> {
    const [hostname, port] = address.slice("tcp:".length).split(":");
    return new RawTrainer(await Deno.connect({ hostname: hostname!, port: Number(port) }));
  }

  /** Connects and greets, with the way `socket`. */
  static async greeted(
    address: string,
    options: { readonly key?: string; readonly name?: string; readonly way?: string } = {},
  ): Promise<RawTrainer> {
    const trainer = await RawTrainer.connect(address);
    try {
      await trainer.#greet(options);
      return trainer;
    } catch (error) {
      trainer[Symbol.dispose]();
      throw error;
    }
  }

  async #greet(
    options: { readonly key?: string; readonly name?: string; readonly way?: string },
  ): Promise<void> {
    const { key = "", name = "raw", way = "socket" } = options;
    const nonce = "0123456789abcdef".repeat(4);
    await this.say({ ...HELLO, nonce, name, ways: [way] });
    const hello = await this.hear();
    if (hello.type !== "hello") throw new Error(`${hello.type}: ${hello.message}`);
    const proof = createHmac("sha256", key).update(`client:${nonce}:${hello.nonce}`).digest("hex");
    await this.say({ type: "proof", proof });
    const welcome = await this.hear();
    if (welcome.type !== "welcome") throw new Error(`${welcome.type}: ${welcome.message}`);
    await this.say({ type: "way", way, why: "a test" });
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) at += await this.#socket.write(bytes.subarray(at));
  }

  async say(message: object): Promise<void> {
    await this.write(encodeMessage(message));
  }

  /** The next message that is no ping. */
  async hear(): Promise<Told> {
    for (;;) {
      const { kind, length } = await this.#reader.head();
      if (kind !== FrameKind.message) throw new Error(`a frame of kind ${kind}`);
      const message = await this.#reader.message(length, 2 ** 25) as Told;
      if (message.type !== "ping") return message;
    }
  }

  /** The next message of a type. */
  async await(type: string): Promise<Told> {
    for (;;) {
      const message = await this.hear();
      if (message.type === type) return message;
    }
  }

  /** Frames of a batch of so many bytes. */
  async batch(byteLength: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(byteLength);
    for (let at = 0; at < byteLength;) {
      const { kind, length } = await this.#reader.head();
      if (kind !== FrameKind.batch) throw new Error(`a frame of kind ${kind}`);
      await this.#reader.fill(bytes.subarray(at, at + length));
      at += length;
    }
    return bytes;
  }

  async bytes(push: number, bytes: Uint8Array): Promise<void> {
    await this.write(encodeHead({ kind: FrameKind.bytes, push, length: bytes.length }));
    await this.write(bytes);
  }

  /** Pushes tensors and answers what is asked for; gives how it ended. */
  async push(
    push: number,
    tensors: readonly RawTensor[],
    options: { readonly version?: string; readonly pieceBytes?: number } = {},
  ): Promise<Told> {
    await this.offer(push, tensors, options.version);
    const { pieceBytes = 1 << 20 } = options;
    for (;;) {
      const message = await this.hear();
      if (message.type === "done" || message.type === "failed") return message;
      if (message.type !== "want") continue;
      const { data } = tensors[message.tensor as number]!;
      for (let at = 0; at < data.length; at += pieceBytes) {
        await this.bytes(push, data.subarray(at, at + pieceBytes));
      }
    }
  }

  async offer(
    push: number,
    tensors: readonly RawTensor[],
    version?: string,
    memory?: object,
  ): Promise<void> {
    const described = tensors.map(({ name, dtype, shape }) => [name, dtype, shape]);
    await this.say({
      type: "push",
      push,
      version: version ?? null,
      kind: "weights",
      tensors: described,
      ...(memory && { memory }),
    });
  }

  /** Whether the link has closed the connection. */
  async isClosed(): Promise<boolean> {
    try {
      await this.#reader.head();
      return false;
    } catch {
      return true;
    }
  }

  [Symbol.dispose](): void {
    try {
      this.#socket.close();
    } catch { /* It is closed already. */ }
  }
}

/** A tensor as it is pushed. */
export interface RawTensor {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** A good hello. */
export const HELLO = {
  type: "hello",
  protocol: "sglang-rl.trainer",
  versions: [1],
  nonce: "ab".repeat(32),
  name: "raw",
  ways: ["socket"],
};

/** Reads a source of a push to its end, as a sync would. */
export async function readWhole(
  source: WeightSource,
): Promise<Map<string, Uint8Array>> {
  await using open = await source.open();
  const { signal } = new AbortController();
  const read = await Promise.all(open.tensors.map(async (tensor, i) => {
    const target = new Uint8Array(tensorSizeBytes(tensor));
    await open.read(i, target, { signal });
    return [tensor.name, target] as const;
  }));
  return new Map(read);
}

/** Tensors of random bytes, always the same. */
export function randomTensors(sizes: readonly number[]): RawTensor[] {
  const random = seeded(1);
  return sizes.map((size, i) => ({
    name: `t${i}`,
    dtype: "uint8",
    shape: [size],
    data: Uint8Array.from({ length: size }, () => 256 * random()),
  }));
}
