import { NativeError, PermissionError, type SGLangError, StateError } from "../../src/errors.ts";
import { withDeadline } from "../../src/internal/deadline.ts";
import { type Logger, silentLogger } from "../../src/internal/logger.ts";
import { libcSymbols } from "../libc/symbols.ts";
import { type LibraryOptions, openLibrary } from "../library.ts";
import { type Address, Memory, nullAddress } from "../memory.ts";
import {
  type AnswerMessage,
  FlightRecorder,
  fromPlainError,
  type RankInfo,
  type RequestMessage,
  type RequestName,
  type Requests,
} from "./protocol.ts";
import type { Rank } from "./rank.ts";
import { ncclSymbols } from "./symbols.ts";
import { asError } from "../../src/internal/thrown.ts";

/** How long a thread may take to hear an abort before it counts as stuck in a native call. */
const ABORT_GRACE_MS = 3_000;

/** What a {@linkcode Communicator} is opened with. */
export interface CommunicatorOptions {
  /** Index of the device, among those that `CUDA_VISIBLE_DEVICES` leaves. Default 0. */
  readonly device?: number | undefined;
  /** Where the libraries are. */
  readonly libraries?: LibraryOptions | undefined;
  /** Whether NCCL is opened too. Default true. */
  readonly collectives?: boolean | undefined;
  /** Longest wait for the libraries and the device. Default 60 s. */
  readonly timeoutMs?: number | undefined;
  /** Cancels the opening. */
  readonly signal?: AbortSignal | undefined;
  /** Hears what happens. */
  readonly logger?: Logger | undefined;
}

/** How one request waits. */
export interface CallOptions {
  /** Name of the wait, for its error. */
  readonly phase: string;
  /** Longest wait in milliseconds. */
  readonly timeoutMs: number;
  /** Cancels the wait; the request itself goes on until an abort. */
  readonly signal?: AbortSignal | undefined;
  /** Who is waited for, for the error. */
  readonly peer?: string | undefined;
  /** What was last heard from the peer, for the error. */
  readonly lastHeard?: (() => string | undefined) | undefined;
  /** Buffers whose addresses are among the arguments: kept alive until the thread has answered. */
  readonly keep?: readonly Uint8Array[] | undefined;
  /** Called once the request is sure to be done, whatever becomes of this process. */
  readonly queued?: (() => void) | undefined;
}

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/**
 * The main thread's side of one rank. The rank has a thread of its own that owns its device; every
 * request is a message, so the event loop here never waits for a GPU or a peer.
 *
 * Permissions: `--allow-ffi` for the paths of NCCL and the CUDA runtime, `--allow-read` for this
 * library's own `ffi/` and `src/` folders when it runs from files (Deno asks it for every Worker).
 */
export class Communicator implements Rank {
  /** A thread dies with its process. */
  readonly outlivesUs = false;
  readonly #worker: Worker;
  readonly #recorder = new FlightRecorder();
  readonly #pending = new Map<number, Pending>();
  readonly #logger: Logger;
  #nextId = 1;
  #info: RankInfo | undefined;
  #memory: Memory | undefined;
  #end: Error | undefined;
  /** Buffers whose addresses the thread holds until it ends. */
  readonly #held = new Set<Uint8Array>();
  /** Buffers whose addresses a request holds, by its number, until it is answered. */
  readonly #kept = new Map<number, readonly Uint8Array[]>();

  private constructor(worker: Worker, logger: Logger) {
    this.#worker = worker;
    this.#logger = logger;
    worker.onmessage = ({ data }: MessageEvent<AnswerMessage>) => this.#receive(data);
    worker.onerror = (event) => {
      event.preventDefault();
      this.#fail(threadError(event.message));
    };
  }

  /**
   * Starts the rank's thread and opens NCCL, the CUDA runtime and the device there.
   *
   * @throws {LibraryError} A library is nowhere.
   * @throws {PermissionError} Deno was not allowed to open a library, or to start the thread.
   * @throws {NativeError} There is no driver or no such device.
   * @throws {TimeoutError} The device did not open in time.
   */
  static async open(options: CommunicatorOptions = {}): Promise<Communicator> {
    const { device = 0, libraries = {}, collectives = true } = options;
    const { timeoutMs = 60_000, signal } = options;
    const worker = new Worker(import.meta.resolve("./worker.ts"), { type: "module" });
    const communicator = new Communicator(worker, options.logger ?? silentLogger);
    const recorder = communicator.#recorder.shared;
    try {
      const phase = `open device ${device}`;
      communicator.#info = await communicator.request(
        "open",
        { libraries, device, recorder, collectives },
        { phase, timeoutMs, signal },
      );
      communicator.#prepareAddresses(communicator.#info.cudartPath);
      return communicator;
    } catch (error) {
      communicator.#fail(asError(error));
      worker.terminate();
      throw error;
    }
  }

  /** What was opened: versions and paths. */
  get info(): RankInfo {
    return this.#info!;
  }

  /** Why it can no longer be used, when it cannot. */
  get ended(): Error | undefined {
    return this.#end;
  }

  /** The address of a buffer of this thread, kept alive until {@linkcode Communicator.close}. */
  hold(bytes: Uint8Array): Address {
    this.#held.add(bytes);
    return this.addressOf(bytes);
  }

  /** The address of a buffer of this thread; name the buffer in the request's `keep`. */
  addressOf(bytes: Uint8Array): Address {
    if (this.#memory === undefined) throw new StateError("The rank is not open");
    return this.#memory.addressOf(bytes);
  }

  /** Sends a request and waits for its answer. */
  async request<Name extends RequestName>(
    name: Name,
    args: Requests[Name]["arguments"],
    options: CallOptions,
  ): Promise<Requests[Name]["answer"]> {
    if (this.#end) {
      throw new StateError(`The rank has ended: ${this.#end.message}`, { cause: this.#end });
    }
    const id = this.#nextId++;
    try {
      return await withDeadline(options, () => {
        const { promise, resolve, reject } = Promise.withResolvers<unknown>();
        this.#pending.set(id, { resolve, reject });
        if (options.keep) this.#kept.set(id, options.keep);
        const message: RequestMessage = { id, name, arguments: args };
        this.#worker.postMessage(message);
        options.queued?.();
        return promise as Promise<Requests[Name]["answer"]>;
      });
    } finally {
      this.#pending.delete(id);
    }
  }

  /**
   * Drops the communicator at once, so that no collective of ours waits any longer, and ends the
   * thread. When the thread is stuck in a native call, `ncclCommAbort` is called from another
   * thread, which frees a call that waits for peers. Never rejects.
   *
   * @returns whether the thread ended; `false` means that a native call never returned: the thread
   * and its device memory stay until the process ends
   */
  async abort(reason: Error): Promise<boolean> {
    if (this.#end) return true;
    const grace = { phase: "abort", timeoutMs: ABORT_GRACE_MS };
    const heard = await this.#succeeds(this.request("abort", {}, grace)) ||
      await this.#abortFromOutside();
    const closed = heard && await this.#succeeds(this.request("close", {}, grace));
    this.#fail(reason);
    if (!closed) {
      this.#logger.error(
        `NCCL rank: ${this.#recorder.call} does not return, its thread is left behind`,
      );
      return false;
    }
    this.#release();
    return true;
  }

  /** Ends the communicator in order, once its peers do too, and the thread. */
  async close(options: CallOptions): Promise<void> {
    if (this.#end) return;
    try {
      await this.request("close", {}, options);
    } catch (error) {
      await this.abort(error as SGLangError);
      throw error;
    }
    this.#fail(new StateError("The rank was closed"));
    this.#release();
  }

  /** Closes; what fails is reported to the logger. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.close({ phase: "close rank", timeoutMs: 10_000 });
    } catch (error) {
      this.#logger.warn(`NCCL rank: ${(error as Error).message}`);
    }
  }

  /** The thread has opened the library already: this only looks up the C library's functions. */
  #prepareAddresses(cudart: string): void {
    this.#memory = new Memory(openLibrary("cudart", libcSymbols, { cudart }).symbols);
    this.#memory.addressOf(new Uint8Array(1));
  }

  async #abortFromOutside(): Promise<boolean> {
    const { call } = this.#recorder;
    if (this.#info?.ncclPath === undefined) return false;
    const communicator = this.#recorder.takeCommunicator();
    if (communicator === nullAddress) return false;
    this.#logger.warn(`NCCL rank: ${call} does not return, aborting from another thread`);
    const abortOnly = {
      ncclCommAbort: { ...ncclSymbols.ncclCommAbort, nonblocking: true },
    } as const;
    const { symbols } = openLibrary("nccl", abortOnly, { nccl: this.#info.ncclPath });
    const grace = { phase: "abort from another thread", timeoutMs: ABORT_GRACE_MS };
    return await this.#succeeds(
      withDeadline(grace, () => symbols.ncclCommAbort(communicator)),
    ) && await this.#succeeds(this.request("abort", {}, grace));
  }

  async #succeeds(work: Promise<unknown>): Promise<boolean> {
    try {
      await work;
      return true;
    } catch (error) {
      this.#logger.warn(`NCCL rank: ${(error as Error).message}`);
      return false;
    }
  }

  #receive(answer: AnswerMessage): void {
    this.#kept.delete(answer.id);
    const pending = this.#pending.get(answer.id);
    if (answer.ok) pending?.resolve(answer.value);
    else pending?.reject(fromPlainError(answer.error));
  }

  #fail(error: Error): void {
    this.#end ??= error;
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }

  #release(): void {
    this.#held.clear();
    this.#kept.clear();
    this.#worker.terminate();
  }
}

function threadError(message: string): Error {
  if (!/requires read access/i.test(message)) {
    return new NativeError(`The rank's thread failed: ${message}`, { call: "worker", result: -1 });
  }
  const flag = `--allow-read=${new URL("../../", import.meta.url).pathname}`;
  return new PermissionError(
    `Deno refused permission to start the rank's thread from this library's own files; run again ` +
      `with ${flag}`,
    { flag },
  );
}
