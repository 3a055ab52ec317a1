import { CheckpointError } from "../errors.ts";
import { type HttpAnswer, HttpPool } from "../http/mod.ts";
import { type Clock, systemClock } from "../internal/clock.ts";
import { withDeadline } from "../internal/deadline.ts";
import { overLimit } from "../internal/limits.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { pathOf } from "../internal/path_of.ts";
import { asFileError, isMissingFile, lookAtFile } from "../internal/regular_file.ts";
import { withoutTrailingSlashes } from "../internal/trailing_slashes.ts";
import { type DeltaLimits, deltaLimits, type DeltaLimitSettings } from "./limits.ts";
import { type DeltaManifest, MANIFEST, parseManifest, versionFolder } from "./manifest.ts";

const refuse = (message: string, options?: ErrorOptions) => new CheckpointError(message, options);

/** How a {@linkcode DeltaStore} is read. */
export interface DeltaStoreOptions {
  /** Headers of each request. Default none. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** What is taken of it, and how long is waited. */
  readonly limits?: DeltaLimits | undefined;
  /** Source of time. @internal */
  readonly clock?: Clock | undefined;
}

const OPTION_NAMES = {
  headers: true,
  limits: true,
  clock: true,
} as const satisfies OptionNames<DeltaStoreOptions>;

/** A store of versions, read from a folder or over HTTP. */
export class DeltaStore {
  readonly #place: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #limits: DeltaLimitSettings;
  readonly #clock: Clock;
  #pool: HttpPool | undefined;

  /**
   * Opens nothing yet.
   *
   * @param place A folder, or an `http(s)://` address below which the same files lie.
   * @throws {ValidationError} A limit is none, or an option is unknown.
   */
  constructor(place: string, options: DeltaStoreOptions = {}) {
    checkOptionNames(options, OPTION_NAMES, "a delta store");
    const { headers = {}, limits, clock = systemClock } = options;
    this.#place = withoutTrailingSlashes(pathOf(place, "a delta store"));
    this.#headers = headers;
    this.#limits = deltaLimits(limits);
    this.#clock = clock;
  }

  /** The newest version; `undefined` before the first. */
  async newest(signal?: AbortSignal): Promise<DeltaManifest | undefined> {
    return await this.#manifest(MANIFEST, signal);
  }

  /** A version by its number; `undefined` where it is gone. */
  async version(number: number, signal?: AbortSignal): Promise<DeltaManifest | undefined> {
    const path = `${versionFolder(number)}/${MANIFEST}`;
    const manifest = await this.#manifest(path, signal);
    if (manifest === undefined || manifest.number === number) return manifest;
    throw new CheckpointError(`${this.#place}/${path} says that it is number ${manifest.number}`);
  }

  /** The bytes of a file of a version. */
  async open(
    number: number,
    name: string,
    signal?: AbortSignal,
  ): Promise<ReadableStream<Uint8Array>> {
    const path = `${versionFolder(number)}/${name}`;
    const stream = await this.#open(path, signal);
    if (stream !== undefined) return stream;
    throw new CheckpointError(`${this.#place}/${path} is not there`);
  }

  async #manifest(path: string, signal?: AbortSignal): Promise<DeltaManifest | undefined> {
    const what = `${this.#place}/${path}`;
    // One deadline for all of it: a store that sends a byte now and then is given up too.
    const bytes = await this.#inTime(`read ${what}`, signal, async (inner) => {
      const stream = await this.#open(path, inner);
      return stream && await this.#whole(stream, what);
    });
    return bytes && parseManifest(bytes, what, this.#limits);
  }

  async #whole(stream: ReadableStream<Uint8Array>, what: string): Promise<Uint8Array> {
    const { manifestBytes: max } = this.#limits;
    const parts: Uint8Array[] = [];
    let length = 0;
    for await (const part of stream) {
      length += part.length;
      if (length > max) {
        throw overLimit(`${what} has ${length} bytes or more`, "manifestBytes", max);
      }
      parts.push(part);
    }
    return new Uint8Array(await new Blob(parts as Uint8Array<ArrayBuffer>[]).arrayBuffer());
  }

  #inTime<T>(
    phase: string,
    signal: AbortSignal | undefined,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { openMs: timeoutMs } = this.#limits;
    return withDeadline({ phase, timeoutMs, peer: this.#place, signal, clock: this.#clock }, work);
  }

  async #open(path: string, signal?: AbortSignal): Promise<ReadableStream<Uint8Array> | undefined> {
    const whole = `${this.#place}/${path}`;
    if (!/^https?:\/\//.test(this.#place)) {
      try {
        await lookAtFile(whole, { refuse, signal });
        return (await Deno.open(whole)).readable;
      } catch (error) {
        if (isMissingFile(error)) return undefined;
        throw asFileError(error, whole, { refuse });
      }
    }
    const pool = this.#pool ??= new HttpPool({ url: this.#place, clock: this.#clock, maxIdle: 0 });
    const stop = new AbortController();
    const either = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
    const answer = await this.#inTime(
      `open ${whole}`,
      signal,
      () => pool.send({ method: "GET", path: `/${path}`, headers: this.#headers }, either),
    ).catch((error) => {
      stop.abort(error);
      throw error;
    });
    const { status } = answer.head;
    if (status === 200) return bodyOf(answer);
    answer[Symbol.dispose]();
    if (status === 404) return undefined;
    throw new CheckpointError(`${whole} answered ${status}`);
  }
}

/** The body of an answer; the connection is given back at its end, or when nobody reads on. */
function bodyOf(answer: HttpAnswer): ReadableStream<Uint8Array> {
  return new ReadableStream({
    async pull(controller) {
      try {
        const bytes = await answer.read();
        if (bytes !== null) return controller.enqueue(bytes.slice());
        answer[Symbol.dispose]();
        controller.close();
      } catch (error) {
        answer[Symbol.dispose]();
        throw error;
      }
    },
    cancel: () => answer[Symbol.dispose](),
  }, { highWaterMark: 0 });
}
