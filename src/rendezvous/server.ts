import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import {
  PermissionError,
  ProtocolError,
  StateError,
  UnreachableError,
  ValidationError,
} from "../errors.ts";
import { sleep, withDeadline } from "../internal/deadline.ts";
import { asPermissionError } from "../internal/permission.ts";
import { type BufferBudget, StoreConnection } from "./connection.ts";
import { defaultStoreLimits, type StoreLimits } from "./limits.ts";
import { KeyTable } from "./table.ts";
import { messageOf } from "../internal/thrown.ts";

/** Where a {@linkcode TCPStoreServer} listens and how much it holds. */
export interface TCPStoreServerOptions extends Partial<StoreLimits> {
  /** Address to listen on. Default `127.0.0.1`: nobody outside this machine gets in. */
  readonly hostname?: string | undefined;
  /** Port to listen on. Default 0: the system chooses. */
  readonly port?: number | undefined;
}

/** How to wait for keys. */
export interface WaitForKeysOptions {
  /** Cancels the wait. */
  readonly signal?: AbortSignal | undefined;
  /** Longest wait in milliseconds. Default 60 s. */
  readonly timeoutMs?: number | undefined;
  /** Name of the wait; appears in the error. Default `"rendezvous"`. */
  readonly phase?: string | undefined;
}

const WAIT_NAMES = {
  signal: true,
  timeoutMs: true,
  phase: true,
} as const satisfies OptionNames<WaitForKeysOptions>;

/** What a store has heard so far. */
export interface PeersSeen {
  /** Clients that ever connected. */
  readonly clients: number;
  /** Clients that are connected now. */
  readonly connected: number;
  /** The last request, such as `"set"`. */
  readonly lastOp: string | undefined;
  /** Why the last dropped client was dropped. */
  readonly lastError: string | undefined;
}

const OPTION_NAMES = {
  hostname: true,
  port: true,
  maxKeyBytes: true,
  maxValueBytes: true,
  maxKeys: true,
  maxStoredBytes: true,
  maxMessageBytes: true,
  maxBufferedBytes: true,
  maxConnections: true,
  helloTimeoutMs: true,
} as const satisfies OptionNames<TCPStoreServerOptions>;

const DEFAULT_WAIT_MS = 60_000;

/**
 * A server of torch's TCPStore, the small key-value store over which the ranks of a
 * `torch.distributed` group find each other. Python processes connect to it with
 * `tcp://hostname:port`.
 *
 * The store has no authentication: whoever reaches its port can read and write it. It therefore
 * listens on 127.0.0.1 unless told otherwise. A client that sends anything malformed, or more than
 * the limits allow, loses its connection; the store goes on.
 *
 * Needs `--allow-net` for the address.
 *
 * Source of the protocol: torch `c10d/TCPStoreBackend.cpp`, as seen from torch 2.11 and 2.14.
 *
 * @example
 * ```ts
 * import { TCPStoreServer } from "@sglang-rl/sglang-rl/rendezvous";
 *
 * await using store = TCPStoreServer.listen({ port: 0 });
 * store.set("/greeting", new TextEncoder().encode("hello"));
 * ```
 */
export class TCPStoreServer implements AsyncDisposable {
  readonly #listener: Deno.TcpListener;
  readonly #limits: StoreLimits;
  readonly #table: KeyTable;
  readonly #budget: BufferBudget = { usedBytes: 0 };
  readonly #connections = new Map<StoreConnection, Promise<void>>();
  readonly #closing = new AbortController();
  readonly #accepting: Promise<void>;
  #clients = 0;
  #lastOp: string | undefined;
  #lastError: string | undefined;

  private constructor(listener: Deno.TcpListener, limits: StoreLimits) {
    this.#listener = listener;
    this.#limits = limits;
    this.#table = new KeyTable(limits);
    this.#accepting = this.#accept();
  }

  /**
   * Starts to listen.
   *
   * @throws {PermissionError} Without `--allow-net`.
   * @throws {UnreachableError} When the address cannot be listened on.
   */
  static listen(options: TCPStoreServerOptions = {}): TCPStoreServer {
    checkOptionNames(options, OPTION_NAMES, "TCPStoreServer.listen()");
    const { hostname = "127.0.0.1", port = 0, ...given } = options;
    return new TCPStoreServer(listenTcp(hostname, port), { ...defaultStoreLimits, ...given });
  }

  /** Port that clients connect to. */
  get port(): number {
    return this.#listener.addr.port;
  }

  /** Address that is listened on. */
  get hostname(): string {
    return this.#listener.addr.hostname;
  }

  /** What has been heard, for error messages. */
  get peersSeen(): PeersSeen {
    return {
      clients: this.#clients,
      connected: this.#connections.size,
      lastOp: this.#lastOp,
      lastError: this.#lastError,
    };
  }

  /**
   * Stores a value. The key is taken as it goes over the wire: a Python client's
   * `store.set("a", ...)` arrives as `/a`.
   *
   * @param options `reads`: how often clients may read it, after which the key is gone. Default any
   * number of times.
   * @throws {ValidationError} `reads` is no whole number from 1.
   * @throws {ProtocolError} When a limit is passed.
   */
  set(key: string, value: Uint8Array, options: { readonly reads?: number | undefined } = {}): void {
    const { reads } = options;
    if (reads !== undefined && !(Number.isInteger(reads) && reads >= 1)) {
      throw new ValidationError(`reads must be a whole number from 1, not ${reads}`);
    }
    this.#table.set(key, value.slice(), reads);
  }

  /** A copy of the value of a key as it goes over the wire, or `undefined`. */
  get(key: string): Uint8Array | undefined {
    return this.#table.get(key)?.slice();
  }

  /** Removes a key; tells whether it was there. */
  delete(key: string): boolean {
    return this.#table.delete(key);
  }

  /**
   * Serves keys on demand: `handler` is called when a client (or {@linkcode get} or
   * {@linkcode wait}) wants a key that is not there. What it returns is stored; `undefined`
   * declines. Several handlers are asked in the order in which they were added.
   */
  onMissing(handler: (key: string) => Uint8Array | undefined): void {
    this.#table.onMissing(handler);
  }

  /**
   * The values of `keys` in their order, once all are there.
   *
   * @throws {TimeoutError} Says what was heard.
   * @throws {AbortedError} When the signal fires.
   * @throws {StateError} When the store is closed meanwhile.
   */
  async wait(keys: readonly string[], options: WaitForKeysOptions = {}): Promise<Uint8Array[]> {
    checkOptionNames(options, WAIT_NAMES, "a wait for keys");
    const { signal, timeoutMs = DEFAULT_WAIT_MS, phase = "rendezvous" } = options;
    if (this.#closing.signal.aborted) throw closedError();
    const arrived = Promise.withResolvers<void>();
    const onClose = () => arrived.reject(closedError());
    this.#closing.signal.addEventListener("abort", onClose, { once: true });
    let forget = () => {};
    try {
      forget = this.#table.whenAll(keys, arrived.resolve);
      await withDeadline({
        phase,
        timeoutMs,
        signal,
        peer: `TCPStore keys ${this.#missing(keys)}`,
        lastHeard: () => this.#describePeers(keys),
      }, () => arrived.promise);
      return keys.map((key) => this.#valueAfterWait(key));
    } finally {
      forget();
      this.#closing.signal.removeEventListener("abort", onClose);
    }
  }

  /** Stops listening and drops every client. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    this.#listener.close();
    for (const connection of this.#connections.keys()) connection.close();
    await Promise.all([this.#accepting, ...this.#connections.values()]);
  }

  async #accept(): Promise<void> {
    while (!this.#closing.signal.aborted) {
      try {
        this.#take(await this.#listener.accept());
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        // Such as too many open files: the next client may find room.
        this.#lastError = String(error);
        await sleep(50);
      }
    }
  }

  #take(socket: Deno.TcpConn): void {
    if (this.#connections.size >= this.#limits.maxConnections) {
      this.#lastError = `more than ${this.#limits.maxConnections} connections`;
      socket.close();
      return;
    }
    this.#clients++;
    const connection = new StoreConnection(socket, {
      table: this.#table,
      limits: this.#limits,
      budget: this.#budget,
    });
    const served = connection.serve(() => this.#lastOp = connection.lastOp).then((error) => {
      this.#connections.delete(connection);
      if (error !== undefined) this.#lastError = messageOf(error);
    });
    this.#connections.set(connection, served);
  }

  #missing(keys: readonly string[]): string {
    return keys.filter((key) => !this.#table.has(key)).map((key) => `"${key}"`)
      .join(", ");
  }

  #describePeers(keys: readonly string[]): string {
    const { clients, connected, lastOp, lastError } = this.peersSeen;
    return [
      `${clients} clients ever, ${connected} now`,
      lastOp === undefined ? "no request" : `last request ${lastOp}`,
      ...(lastError === undefined ? [] : [`last client dropped: ${lastError}`]),
      `still missing ${this.#missing(keys)}`,
    ].join(", ");
  }

  #valueAfterWait(key: string): Uint8Array {
    const value = this.get(key);
    if (value === undefined) throw new ProtocolError(`TCPStore: key "${key}" came and was deleted`);
    return value;
  }
}

function listenTcp(hostname: string, port: number): Deno.TcpListener {
  const address = `${hostname}:${port}`;
  try {
    return Deno.listen({ hostname, port });
  } catch (error) {
    const flag = `--allow-net=${port === 0 ? hostname : address}`;
    const cause = asPermissionError(error, flag, `listen on ${address}`);
    if (cause instanceof PermissionError) throw cause;
    throw new UnreachableError(
      `TCPStore cannot listen on ${address}: ${messageOf(cause)}. Choose a free port (0 lets the ` +
        `system choose) and an address of this machine`,
      { cause, url: `tcp://${address}` },
    );
  }
}

function closedError(): StateError {
  return new StateError("TCPStore server is closed");
}
