import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { ProtocolError, StateError } from "../errors.ts";
import { withDeadline } from "../internal/deadline.ts";
import { Semaphore } from "../internal/semaphore.ts";
import { type Answer, readBytes, readExactly, readI64, viewOf } from "./answer.ts";
import { ByteStream } from "./byte_stream.ts";
import { dial } from "./dial.ts";
import {
  CHECK_READY,
  MessageWriter,
  Op,
  VALIDATE_MAGIC,
  WAIT_CANCELED,
  WAIT_DONE,
} from "./wire.ts";
import { messageOf } from "../internal/thrown.ts";

/** Which store to connect to. */
export interface TCPStoreClientOptions {
  /** Address of the store. */
  readonly hostname: string;
  /** Port of the store. */
  readonly port: number;
  /** Put before every key, as torch's own client does. Default `"/"`. */
  readonly keyPrefix?: string | undefined;
  /** Cancels connecting. */
  readonly signal?: AbortSignal | undefined;
  /** How long to try to connect, in milliseconds; a store that is not up yet is waited for. Default 30 s. */
  readonly timeoutMs?: number | undefined;
}

const OPTION_NAMES = {
  hostname: true,
  port: true,
  keyPrefix: true,
  signal: true,
  timeoutMs: true,
} as const satisfies OptionNames<TCPStoreClientOptions>;

/** Options of one request to a store. */
export interface StoreCallOptions {
  /** Cancels the call. */
  readonly signal?: AbortSignal | undefined;
  /** Deadline in milliseconds. Default 30 s. */
  readonly timeoutMs?: number | undefined;
  /** Name of the call; appears in the error. */
  readonly phase?: string | undefined;
}

const CALL_NAMES = {
  signal: true,
  timeoutMs: true,
  phase: true,
} as const satisfies OptionNames<StoreCallOptions>;

const DEFAULT_TIMEOUT_MS = 30_000;
const CANCEL_GRACE_MS = 2_000;

/**
 * A client of torch's TCPStore; the store may be Python's or a {@linkcode TCPStoreServer}.
 *
 * Requests of one client run one after another. After a call that failed half-way (a deadline, an
 * abort) the connection is closed and further calls throw a `StateError`, since a late answer would
 * be taken for another's; a wait alone can be given up without that. After a lost connection they
 * throw an `UnreachableError`.
 *
 * Needs `--allow-net` for the address.
 *
 * @example
 * ```ts
 * import { TCPStoreClient, TCPStoreServer } from "@sglang-rl/sglang-rl/rendezvous";
 *
 * await using server = TCPStoreServer.listen();
 * await using client = await TCPStoreClient.connect({ hostname: "127.0.0.1", port: server.port });
 * await client.set("greeting", new TextEncoder().encode("hello"));
 * server.get("/greeting"); // torch's clients put "/" before their keys
 * ```
 */
export class TCPStoreClient implements AsyncDisposable {
  readonly #stream: ByteStream;
  readonly #prefix: string;
  readonly #address: string;
  readonly #turn = new Semaphore(1);

  private constructor(stream: ByteStream, options: { prefix: string; address: string }) {
    this.#stream = stream;
    this.#prefix = options.prefix;
    this.#address = options.address;
  }

  /**
   * Connects.
   *
   * @throws {UnreachableError} When nobody listens there.
   * @throws {TimeoutError} When no store answers in time.
   * @throws {ProtocolError} When something else does.
   * @throws {PermissionError} Without `--allow-net`.
   */
  static async connect(options: TCPStoreClientOptions): Promise<TCPStoreClient> {
    checkOptionNames(options, OPTION_NAMES, "TCPStoreClient.connect()");
    const { hostname, port, keyPrefix = "/", signal, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
    const address = `${hostname}:${port}`;
    let lastHeard: string | undefined;
    const socket = await withDeadline({
      phase: "connect to TCPStore",
      timeoutMs,
      signal,
      peer: address,
      lastHeard: () => lastHeard,
    }, (inner) => dial({ hostname, port }, inner, (text) => lastHeard = text));
    const client = new TCPStoreClient(new ByteStream(socket, `the TCPStore at ${address}`), {
      prefix: keyPrefix,
      address,
    });
    try {
      await client.#hello({ signal, timeoutMs });
      return client;
    } catch (error) {
      await client[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Address of this machine from which the store is reached. */
  get localHostname(): string {
    return this.#stream.localHostname;
  }

  /**
   * Counts this process in, as torch's `TCPStore` does when it is made: a Python store that was
   * made with `wait_for_workers` waits for it. Returns how many have been counted.
   */
  async join(options: StoreCallOptions = {}): Promise<number> {
    // Torch uses this one key without its prefix.
    const message = new MessageWriter().u8(Op.add).text("init/").i64(1n).finish();
    return Number(await this.#ask("join", message, options, readI64));
  }

  /** Stores a value, at most 8 MiB. */
  async set(key: string, value: Uint8Array, options: StoreCallOptions = {}): Promise<void> {
    const message = new MessageWriter().u8(Op.set).text(this.#key(key)).bytes(value).finish();
    await this.#tell("set", message, options);
  }

  /** The value of `key`, once it is there. Giving up while it is not leaves the client usable. */
  async get(key: string, options: StoreCallOptions = {}): Promise<Uint8Array> {
    const message = new MessageWriter().u8(Op.get).text(this.#key(key)).finish();
    return await this.#inTurn("get", options, async (signal) => {
      await this.#waitForKeys([key], signal);
      return await this.#exchange(message, signal, readBytes);
    });
  }

  /** Adds to the number under `key`, which begins at 0; returns the sum. */
  async add(key: string, delta: bigint, options: StoreCallOptions = {}): Promise<bigint> {
    const message = new MessageWriter().u8(Op.add).text(this.#key(key)).i64(delta).finish();
    return await this.#ask("add", message, options, readI64);
  }

  /** Stores `desired` if the value is `expected` (empty: if there is none); returns what is stored. */
  async compareSet(
    key: string,
    values: { expected: Uint8Array; desired: Uint8Array },
    options: StoreCallOptions = {},
  ): Promise<Uint8Array> {
    const message = new MessageWriter().u8(Op.compareSet).text(this.#key(key))
      .bytes(values.expected).bytes(values.desired).finish();
    return await this.#ask("compareSet", message, options, readBytes);
  }

  /** Whether all keys are there. */
  async check(keys: readonly string[], options: StoreCallOptions = {}): Promise<boolean> {
    const message = new MessageWriter().u8(Op.check).texts(this.#keys(keys)).finish();
    const [answer] = await this.#ask("check", message, options, readExactly(1));
    return answer === CHECK_READY;
  }

  /** Adds bytes to the end of a value. */
  async append(key: string, value: Uint8Array, options: StoreCallOptions = {}): Promise<void> {
    const message = new MessageWriter().u8(Op.append).text(this.#key(key)).bytes(value).finish();
    await this.#tell("append", message, options);
  }

  /** Removes a key; tells whether it was there. */
  async delete(key: string, options: StoreCallOptions = {}): Promise<boolean> {
    const message = new MessageWriter().u8(Op.deleteKey).text(this.#key(key)).finish();
    return await this.#ask("delete", message, options, readI64) > 0n;
  }

  /** Number of keys in the store, those of torch itself included. */
  async countKeys(options: StoreCallOptions = {}): Promise<number> {
    const message = new MessageWriter().u8(Op.getNumKeys).finish();
    return Number(await this.#ask("countKeys", message, options, readI64));
  }

  /** Waits until all keys are there. A wait that is given up leaves the client usable. */
  async wait(keys: readonly string[], options: StoreCallOptions = {}): Promise<void> {
    await this.#inTurn("wait", options, (signal) => this.#waitForKeys(keys, signal));
  }

  /** Closes the connection. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#stream.close(new StateError("TCPStore client is closed"));
    return Promise.resolve();
  }

  async #hello(options: StoreCallOptions): Promise<void> {
    const nonce = crypto.getRandomValues(new Uint32Array(1))[0]!;
    const message = new MessageWriter().u8(Op.validate).u32(VALIDATE_MAGIC).u8(Op.ping).u32(nonce)
      .finish();
    const answer = viewOf(await this.#ask("hello", message, options, readExactly(4)));
    if (answer.getUint32(0, true) === nonce) return;
    throw new ProtocolError(
      `What answers at ${this.#address} is not a TCPStore: wrong PING answer`,
    );
  }

  async #waitForKeys(keys: readonly string[], signal: AbortSignal): Promise<void> {
    const message = new MessageWriter().u8(Op.wait).texts(this.#keys(keys)).finish();
    try {
      await this.#stream.write(message, signal);
      await this.#expect(WAIT_DONE, signal);
    } catch (error) {
      if (signal.aborted) await this.#cancelWait();
      else this.#break(error);
      throw error;
    }
  }

  /** After a wait that was given up: takes the answers still due, or breaks the connection. */
  async #cancelWait(): Promise<void> {
    try {
      await this.#deadline("cancel wait", { timeoutMs: CANCEL_GRACE_MS }, async (signal) => {
        await this.#stream.write(Uint8Array.of(Op.cancelWait), signal);
        const first = (await this.#stream.read(1, signal))[0];
        // The keys may have come just before the cancel.
        if (first === WAIT_DONE) await this.#expect(WAIT_CANCELED, signal);
        else if (first !== WAIT_CANCELED) throw wrongAnswer(first);
      });
    } catch (error) {
      this.#break(error);
    }
  }

  async #expect(answer: number, signal: AbortSignal): Promise<void> {
    const byte = (await this.#stream.read(1, signal))[0];
    if (byte !== answer) throw wrongAnswer(byte);
  }

  #tell(name: string, message: Uint8Array, options: StoreCallOptions): Promise<void> {
    return this.#ask(name, message, options, () => Promise.resolve());
  }

  #ask<T>(
    name: string,
    message: Uint8Array,
    options: StoreCallOptions,
    answer: Answer<T>,
  ): Promise<T> {
    return this.#inTurn(name, options, (signal) => this.#exchange(message, signal, answer));
  }

  /** One request and its answer; if either fails, the connection is of no more use. */
  async #exchange<T>(message: Uint8Array, signal: AbortSignal, answer: Answer<T>): Promise<T> {
    try {
      await this.#stream.write(message, signal);
      return await answer(this.#stream, signal);
    } catch (error) {
      this.#break(error);
      throw error;
    }
  }

  #break(cause: unknown): void {
    const why = messageOf(cause);
    this.#stream.close(
      new StateError(`Connection to the TCPStore at ${this.#address} was given up: ${why}`, {
        cause,
      }),
    );
  }

  #inTurn<T>(
    name: string,
    options: StoreCallOptions,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    return this.#deadline(name, options, async (signal) => {
      using _turn = await this.#turn.acquire(signal);
      return await work(signal);
    });
  }

  #deadline<T>(
    name: string,
    options: StoreCallOptions,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    checkOptionNames(options, CALL_NAMES, "a call of the store");
    const { signal, timeoutMs = DEFAULT_TIMEOUT_MS, phase = `TCPStore ${name}` } = options;
    return withDeadline({ phase, timeoutMs, signal, peer: this.#address }, work);
  }

  #key(key: string): string {
    return this.#prefix + key;
  }

  #keys(keys: readonly string[]): string[] {
    return keys.map((key) => this.#key(key));
  }
}

function wrongAnswer(byte: number | undefined): ProtocolError {
  return new ProtocolError(`TCPStore gave an answer that its protocol does not know: ${byte}`);
}
