import { PermissionError, ProtocolError, UnreachableError } from "../../errors.ts";
import { connectTcp } from "../../runtime/connect_tcp.ts";
import { asPermissionError } from "../../internal/permission.ts";
import { formatIp, type GlooAddress, isInitiator, parseIp } from "./address.ts";
import { PairListener } from "./listener.ts";
import { Pair } from "./pair.ts";
import { encodeGlooRank, type GlooRank, parseGlooRank } from "./wire.ts";

/** Where a rank of a mesh stands. */
export interface MeshOptions {
  /** Own rank. */
  readonly rank: number;
  /** Number of ranks. */
  readonly worldSize: number;
  /** Address to listen on. */
  readonly bindAddress: string;
  /** IP address that is published to the others. */
  readonly publishedIp: string;
}

/** Waits for what a rank published. */
export type LookUpRank = (rank: number, signal: AbortSignal) => Promise<Uint8Array>;

/** The connections of one rank with all the others. */
export class Mesh {
  readonly #options: MeshOptions;
  readonly #listener: PairListener;
  readonly #address: GlooAddress;
  /** What each rank must say when it connects to this one: only who can read the store knows it. */
  readonly #numbers: readonly bigint[];
  readonly #pairs = new Map<number, Pair>();
  readonly #stop = new AbortController();
  #failure: Error | undefined;

  /** Listens; contacts nobody. */
  constructor(options: MeshOptions) {
    this.#options = options;
    this.#numbers = randomNumbers(options.worldSize);
    this.#listener = new PairListener(options.bindAddress, this.#numbers);
    this.#address = { ip: parseIp(options.publishedIp), port: this.#listener.address.port };
  }

  /** What this rank publishes. */
  get rankInfo(): Uint8Array {
    return encodeGlooRank({
      hostname: this.#options.publishedIp,
      address: this.#address,
      pairIds: this.#numbers,
    });
  }

  /** Number of other ranks that are connected. */
  get connected(): number {
    return this.#pairs.size;
  }

  /** Connections to this rank that said a wrong number, and were dropped. */
  get strangers(): number {
    return this.#listener.dropped;
  }

  /** The first error of a pair: the rank at its other end is lost, or has left. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Connects with every other rank. */
  async connect(lookUp: LookUpRank, signal: AbortSignal): Promise<void> {
    const { rank, worldSize } = this.#options;
    const linkSignal = AbortSignal.any([signal, this.#stop.signal]);
    const others = Array.from({ length: worldSize }, (_, r) => r).filter((r) => r !== rank);
    const links = others.map((other) =>
      // One that fails ends the others' waits, so that nothing is under way afterwards.
      this.#link(other, lookUp, linkSignal).catch((error) => this.#stop.abort(error))
    );
    await Promise.all(links);
    // Whoever connects from now on is no rank.
    await this.#listener.close();
    linkSignal.throwIfAborted();
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** The connection with a rank. */
  pair(rank: number): Pair {
    const pair = this.#pairs.get(rank);
    if (pair === undefined) throw new ProtocolError(`gloo: not connected with rank ${rank}`);
    return pair;
  }

  /** Ends all connections; payloads on the wire are finished for at most `graceMs`. Never rejects. */
  async end(error: Error, graceMs: number): Promise<void> {
    this.#failure ??= error;
    this.#stop.abort(this.#failure);
    const ends = [...this.#pairs.values()].map((pair) => pair.end(error, graceMs));
    await Promise.all([this.#listener.close(), ...ends]);
  }

  async #link(rank: number, lookUp: LookUpRank, signal: AbortSignal): Promise<void> {
    const info = parseGlooRank(await lookUp(rank, signal));
    const socket = isInitiator(this.#address, info.address)
      ? await this.#dial(rank, info, signal)
      : await this.#listener.expect(
        // A rank that connects lazily publishes no numbers, and says its rank.
        info.pairIds.length === 0 ? BigInt(rank) : this.#numbers[rank]!,
        signal,
      );
    if (signal.aborted || this.#failure !== undefined) {
      socket.close();
      throw signal.reason ?? this.#failure;
    }
    this.#pairs.set(rank, new Pair(rank, socket, (error) => this.#failure ??= error));
  }

  async #dial(rank: number, info: GlooRank, signal: AbortSignal): Promise<Deno.TcpConn> {
    const own = this.#options.rank;
    // A rank that connects lazily publishes no numbers and takes ranks for them.
    const id = info.pairIds.length === 0 ? BigInt(own) : info.pairIds[own];
    if (id === undefined) {
      throw new ProtocolError(
        `gloo: rank ${rank} expects ${info.pairIds.length} ranks, not ${this.#options.worldSize}`,
      );
    }
    const socket = await dialTcp(rank, info.address, signal);
    const hello = new Uint8Array(8);
    new DataView(hello.buffer).setBigInt64(0, id, true);
    try {
      // One write: the other side reads it with a single call and drops the connection otherwise.
      await socket.write(hello);
      return socket;
    } catch (error) {
      socket.close();
      throw error;
    }
  }
}

/** Numbers that nobody can guess: 63 bits each, since gloo reads them as signed. */
function randomNumbers(count: number): bigint[] {
  const numbers = new Set<bigint>();
  while (numbers.size < count) {
    const number = crypto.getRandomValues(new BigUint64Array(1))[0]! >> 1n;
    // Small numbers are ranks.
    if (number > 0xffff_ffffn) numbers.add(number);
  }
  return [...numbers];
}

async function dialTcp(
  rank: number,
  address: GlooAddress,
  signal: AbortSignal,
): Promise<Deno.TcpConn> {
  const hostname = formatIp(address.ip);
  const where = `${hostname}:${address.port}`;
  try {
    return await connectTcp({ hostname, port: address.port, signal });
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    const purpose = `connect to rank ${rank} at ${where} (its port differs every time)`;
    const cause = asPermissionError(error, `--allow-net=${hostname}`, purpose);
    if (cause instanceof PermissionError) throw cause;
    throw new UnreachableError(
      `gloo: rank ${rank} says that it is at ${where}, but ${(error as Error).message}. Set ` +
        `GLOO_SOCKET_IFNAME on the server to the interface that this machine can reach`,
      { cause, url: `tcp://${where}` },
    );
  }
}
