import { CheckpointError, LimitError } from "../errors.ts";
import { type HttpAnswer, HttpPool } from "../http/mod.ts";
import { systemClock } from "../internal/clock.ts";
import { withDeadline } from "../internal/deadline.ts";
import { asPermissionError } from "../internal/permission.ts";
import { type DeltaManifest, MANIFEST, parseManifest, versionFolder } from "./manifest.ts";

/** Largest manifest that is read. */
const MAX_MANIFEST_BYTES = 32 * 1024 * 1024;
const OPEN_MS = 30_000;

/** A store of versions, read from a folder or over HTTP. */
export class DeltaStore {
  readonly #place: string;
  readonly #headers: Readonly<Record<string, string>>;
  #pool: HttpPool | undefined;

  /**
   * Opens nothing yet.
   *
   * @param place A folder, or an `http(s)://` address below which the same files lie.
   * @param headers Headers of each request.
   */
  constructor(place: string, headers: Readonly<Record<string, string>> = {}) {
    this.#place = place.replace(/\/+$/, "");
    this.#headers = headers;
  }

  /** The newest version; `undefined` before the first. */
  async newest(signal?: AbortSignal): Promise<DeltaManifest | undefined> {
    return await this.#manifest(MANIFEST, signal);
  }

  /** A version by its number; `undefined` where it is gone. */
  async version(number: number, signal?: AbortSignal): Promise<DeltaManifest | undefined> {
    return await this.#manifest(`${versionFolder(number)}/${MANIFEST}`, signal);
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
    const stream = await this.#open(path, signal);
    if (stream === undefined) return undefined;
    const parts: Uint8Array[] = [];
    let length = 0;
    for await (const part of stream) {
      length += part.length;
      if (length > MAX_MANIFEST_BYTES) {
        throw new LimitError(`${this.#place}/${path} is longer than ${MAX_MANIFEST_BYTES} bytes`, {
          limit: "manifest",
          max: MAX_MANIFEST_BYTES,
        });
      }
      parts.push(part);
    }
    const bytes = new Uint8Array(await new Blob(parts as Uint8Array<ArrayBuffer>[]).arrayBuffer());
    return parseManifest(bytes, `${this.#place}/${path}`);
  }

  async #open(path: string, signal?: AbortSignal): Promise<ReadableStream<Uint8Array> | undefined> {
    const whole = `${this.#place}/${path}`;
    if (!/^https?:\/\//.test(this.#place)) {
      try {
        return (await Deno.open(whole)).readable;
      } catch (error) {
        if (error instanceof Deno.errors.NotFound) return undefined;
        throw asPermissionError(error, `--allow-read=${this.#place}`, `read ${whole}`);
      }
    }
    const pool = this.#pool ??= new HttpPool({ url: this.#place, clock: systemClock, maxIdle: 0 });
    const stop = new AbortController();
    const either = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
    const answer = await withDeadline(
      { phase: `open ${whole}`, timeoutMs: OPEN_MS, peer: this.#place, signal },
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
