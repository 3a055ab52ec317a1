import { StateError } from "../../src/errors.ts";
import { withDeadline } from "../../src/internal/deadline.ts";
import { type Logger, silentLogger } from "../../src/internal/logger.ts";
import { asError } from "../../src/internal/thrown.ts";
import type { LibraryOptions } from "../library.ts";
import type { CallOptions } from "../nccl/communicator.ts";
import type { RankInfo, RequestName, Requests } from "../nccl/protocol.ts";
import type { Rank } from "../nccl/rank.ts";
import type { Ask } from "./keeper.ts";

/** What a rank in the keeper is opened with. */
export interface RemoteOptions {
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

/** How long the keeper has to answer an abort: longer than the abort itself may take there. */
const ABORT_MS = 12_000;

/** A rank whose device and communicator live in the keeper. */
export class RemoteRank implements Rank {
  /** It lets go of its peers when this process is killed. */
  readonly outlivesUs = true;
  readonly #rank: number;
  readonly #ask: Ask;
  readonly #info: RankInfo;
  readonly #logger: Logger;
  #end: Error | undefined;

  private constructor(rank: number, ask: Ask, info: RankInfo, logger: Logger) {
    this.#rank = rank;
    this.#ask = ask;
    this.#info = info;
    this.#logger = logger;
  }

  /** Opens it; use `openRankIn` of the keeper. */
  static async open(rank: number, ask: Ask, options: RemoteOptions): Promise<RemoteRank> {
    const { device = 0, libraries = {}, collectives = true, timeoutMs = 60_000 } = options;
    const wait = { phase: `open device ${device}`, timeoutMs, signal: options.signal };
    const info = await withDeadline(
      wait,
      () => ask({ kind: "open", rank, device, libraries, collectives, timeoutMs }),
    ) as RankInfo;
    return new RemoteRank(rank, ask, info, options.logger ?? silentLogger);
  }

  /** What was opened there. */
  get info(): RankInfo {
    return this.#info;
  }

  /** Why it can no longer be used, when it cannot. */
  get ended(): Error | undefined {
    return this.#end;
  }

  /** Memory of this process is out of the keeper's reach. */
  hold(bytes: Uint8Array): bigint {
    return this.addressOf(bytes);
  }

  /** Memory of this process is out of the keeper's reach. */
  addressOf(_bytes: Uint8Array): bigint {
    throw new StateError("A rank in the keeper sends from device memory that was staged for it");
  }

  /** Sends a request; `queued` of the options is called once the keeper will surely do it. */
  async request<Name extends RequestName>(
    name: Name,
    args: Requests[Name]["arguments"],
    options: CallOptions & { readonly queued?: (() => void) | undefined },
  ): Promise<Requests[Name]["answer"]> {
    if (this.#end) {
      throw new StateError(`The rank has ended: ${this.#end.message}`, { cause: this.#end });
    }
    const { phase, timeoutMs } = options;
    return await withDeadline(
      options,
      () =>
        this.#ask(
          { kind: "request", rank: this.#rank, name, arguments: args, phase, timeoutMs },
          options.queued,
        ) as Promise<Requests[Name]["answer"]>,
    );
  }

  /** Drops the communicator at once. Never rejects. */
  async abort(reason: Error): Promise<boolean> {
    if (this.#end) return true;
    this.#end = reason;
    try {
      const wait = { phase: "abort in the keeper", timeoutMs: ABORT_MS };
      return await withDeadline(
        wait,
        () => this.#ask({ kind: "abort", rank: this.#rank, reason: reason.message }),
      ) as boolean;
    } catch (error) {
      this.#logger.warn(`NCCL rank: ${asError(error).message}`);
      return false;
    }
  }

  /** Ends the communicator in order, once its peers do too. */
  async close(options: CallOptions): Promise<void> {
    if (this.#end) return;
    try {
      await withDeadline(
        options,
        () => this.#ask({ kind: "close", rank: this.#rank, timeoutMs: options.timeoutMs }),
      );
      this.#end = new StateError("The rank was closed");
    } catch (error) {
      await this.abort(asError(error));
      throw error;
    }
  }

  /** Closes; what fails is reported to the logger. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.close({ phase: "close rank", timeoutMs: 10_000 });
    } catch (error) {
      this.#logger.warn(`NCCL rank: ${asError(error).message}`);
    }
  }
}
