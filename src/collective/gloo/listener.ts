import { systemClock } from "../../internal/clock.ts";
import { sleep } from "../../internal/deadline.ts";
import { PermissionError, UnreachableError } from "../../errors.ts";
import { asPermissionError } from "../../internal/permission.ts";

/** Connections that have not said yet who they are. */
const MAX_STRANGERS = 64;
/** Time that they have to say it. */
const HELLO_TIMEOUT_MS = 10_000;

/**
 * Takes the connections of other ranks, each of which begins with 8 bytes: the number that this rank
 * gave to the other in private. Whoever says another number is dropped and counted.
 */
export class PairListener {
  readonly #listener: Deno.TcpListener;
  readonly #numbers: Set<bigint>;
  readonly #worldSize: number;
  readonly #strangers = new Set<Deno.TcpConn>();
  readonly #arrived = new Map<bigint, Deno.TcpConn>();
  readonly #expected = new Map<bigint, (socket: Deno.TcpConn) => void>();
  readonly #working = new Set<Promise<void>>();
  #dropped = 0;
  #closed = false;

  /**
   * Listens; throws an `UnreachableError` or `PermissionError` when it cannot.
   *
   * @param numbers What the other ranks will say, each once. Ranks that take their rank for the number
   * (`TORCH_GLOO_LAZY_INIT=1`) wait until they are expected.
   */
  constructor(hostname: string, numbers: readonly bigint[]) {
    this.#listener = listenTcp(hostname);
    this.#numbers = new Set(numbers);
    this.#worldSize = numbers.length;
    this.#track(this.#accept());
  }

  /** Connections that said a wrong number. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Address that is listened on. */
  get address(): Deno.NetAddr {
    return this.#listener.addr;
  }

  /** The connection whose first 8 bytes say `id`. */
  async expect(id: bigint, signal: AbortSignal): Promise<Deno.TcpConn> {
    signal.throwIfAborted();
    this.#numbers.delete(id);
    const there = this.#arrived.get(id);
    if (there !== undefined) {
      this.#arrived.delete(id);
      return there;
    }
    const { promise, resolve, reject } = Promise.withResolvers<Deno.TcpConn>();
    const onAbort = () => reject(signal.reason);
    this.#expected.set(id, resolve);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await promise;
    } finally {
      this.#expected.delete(id);
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** Stops listening and drops the connections that nobody took. */
  async close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      this.#listener.close();
      // Who said a rank where no rank says it, was no rank.
      this.#dropped += this.#arrived.size;
      for (const socket of [...this.#strangers, ...this.#arrived.values()]) socket.close();
      this.#arrived.clear();
    }
    await Promise.all(this.#working);
  }

  #track(work: Promise<void>): void {
    this.#working.add(work);
    work.finally(() => this.#working.delete(work));
  }

  async #accept(): Promise<void> {
    while (!this.#closed) {
      try {
        const socket = await this.#listener.accept();
        // Ranks say their number at once; who has been silent longest is none.
        if (this.#strangers.size >= MAX_STRANGERS) this.#dropOldest();
        this.#track(this.#greet(socket));
      } catch {
        // Closed; or out of file descriptors, of which closing others gives some back.
        if (!this.#closed) await sleep(50);
      }
    }
  }

  #dropOldest(): void {
    for (const oldest of this.#strangers) {
      this.#strangers.delete(oldest);
      this.#dropped++;
      oldest.close();
      return;
    }
  }

  async #greet(socket: Deno.TcpConn): Promise<void> {
    this.#strangers.add(socket);
    let taken = false;
    const drop = () => {
      if (this.#strangers.delete(socket) && !this.#closed) socket.close();
    };
    const cancel = systemClock.schedule(HELLO_TIMEOUT_MS, drop);
    try {
      const id = await readId(socket);
      taken = this.#strangers.delete(socket) && !this.#closed && this.#hand(id, socket);
      if (!taken && !this.#closed) {
        this.#dropped++;
        socket.close();
      }
    } catch {
      drop();
    } finally {
      cancel();
    }
  }

  /** Gives a connection to who expects it; `false` when nobody can. */
  #hand(id: bigint, socket: Deno.TcpConn): boolean {
    const expected = this.#expected.get(id);
    if (expected !== undefined) {
      this.#expected.delete(id);
      expected(socket);
      return true;
    }
    const isNumber = this.#numbers.delete(id);
    const isRank = id >= 0n && id < BigInt(this.#worldSize) && !this.#arrived.has(id);
    if (!isNumber && !isRank) return false;
    this.#arrived.set(id, socket);
    return true;
  }
}

async function readId(socket: Deno.TcpConn): Promise<bigint> {
  const bytes = new Uint8Array(8);
  for (let filled = 0; filled < bytes.length;) {
    const length = await socket.read(bytes.subarray(filled));
    if (length === null) throw new Error("closed before it said who it is");
    filled += length;
  }
  return new DataView(bytes.buffer).getBigInt64(0, true);
}

function listenTcp(hostname: string): Deno.TcpListener {
  try {
    return Deno.listen({ hostname, port: 0 });
  } catch (error) {
    const cause = asPermissionError(error, `--allow-net=${hostname}`, `listen on ${hostname}`);
    if (cause instanceof PermissionError) throw cause;
    throw new UnreachableError(
      `gloo cannot listen on ${hostname}: ${(error as Error).message}. Give an address of this ` +
        `machine`,
      { cause, url: `tcp://${hostname}` },
    );
  }
}
