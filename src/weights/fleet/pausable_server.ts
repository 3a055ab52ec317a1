import type { PauseMode } from "../../client/types.ts";
import { sleep } from "../../internal/deadline.ts";
import { isMark } from "../../internal/version_marks.ts";
import { ProbedServer } from "./probed_server.ts";

/** How often, and how long after each other, the cache of a server without requests is flushed. */
const FLUSH_LOOKS = 10;
const FLUSH_LOOK_MS = 10;

/** A server of a fleet that is paused for a sync: whose pause it is in, and when it generates again. */
export abstract class PausableServer extends ProbedServer {
  #paused = false;
  /** Whether somebody else had paused it before the sync, who is to resume it. */
  #isOthersPause = false;
  /** Whether it was seen generating: who paused it since then is not a trainer that died before. */
  #hasGenerated = false;
  #isEmptied = false;

  /** Whether it was paused here and not resumed. */
  get paused(): boolean {
    return this.#paused;
  }

  /** Whether it does not generate, as far as is known here. */
  get isSilent(): boolean {
    return this.#paused || this.#isOthersPause;
  }

  /**
   * Looks whether somebody else has paused it, to leave it as it was found.
   *
   * @param whenPaused As in the options; `undefined`: a pause is kept where it cannot be what a
   * trainer left that was killed. That pauses first and marks then, so a mark is such a trainer's.
   * @returns Whether it was found paused.
   */
  async lookForPause(
    whenPaused: "keep" | "resume" | undefined,
    signal: AbortSignal,
  ): Promise<boolean> {
    this.#isOthersPause = false;
    if (this.#paused || whenPaused === "resume" || isMark(this.weightVersion)) return false;
    if (!await this.client.checkPaused({ signal })) {
      this.#hasGenerated = true;
      return false;
    }
    this.#isOthersPause = whenPaused === "keep" || this.client.isPaused || this.#hasGenerated;
    return true;
  }

  /** Whether somebody else's pause is kept. */
  get keepsPause(): boolean {
    return this.#isOthersPause;
  }

  /** Pauses generation. */
  async pause(mode: PauseMode, signal: AbortSignal): Promise<void> {
    // Set first: a pause whose answer is lost may have come through.
    this.#paused = true;
    if (mode === "abort" && this.canRetract) await this.#retractAndAbort(signal);
    else await this.client.pause(mode, { signal });
  }

  /**
   * Pauses as mode `abort` does, without its sleep of a second: SGLang's own looks once a second
   * whether the aborted requests are gone. Retracted requests are back in the queue, where an abort
   * takes them at once, and none can begin in between. What it says of its load then is out of date:
   * that is counted by the loop that is paused.
   */
  async #retractAndAbort(signal: AbortSignal): Promise<void> {
    await this.client.pause("retract", { signal });
    await this.client.abort("all", { signal });
    this.#isEmptied = true;
  }

  /** Whether a pause has taken all requests off it, so that none is left to end. */
  get isEmptied(): boolean {
    return this.#isEmptied;
  }

  /**
   * Empties the prefix cache of a server that was emptied of requests. One may have been on its way
   * to the queue, or not leave it while nothing runs, such as one whose grammar is compiled.
   */
  async flushEmptied(signal: AbortSignal, timeoutMs: number): Promise<boolean> {
    for (let look = 0; look < FLUSH_LOOKS; look++) {
      if (await this.client.flushCache({ signal, timeoutMs })) return true;
      await this.client.abort("all", { signal });
      await sleep(FLUSH_LOOK_MS, { signal, phase: "flush" });
    }
    // Not even for a moment may one serve that holds neither old nor new weights.
    if (this.isPartial) return false;
    this.#isEmptied = false;
    await this.client.resume({ signal });
    await this.client.pause("abort", { signal });
    return await this.client.flushCache({ signal, timeoutMs });
  }

  /**
   * Lets a server that was emptied of requests give back the device memory that updates came in.
   * `false`: it refuses, because a request waits by now.
   */
  async releaseBuffers(signal: AbortSignal): Promise<boolean> {
    return this.#isEmptied && await this.client.flushCache({ signal, mayRefuse: true });
  }

  /** Resumes generation. */
  async resume(signal: AbortSignal): Promise<void> {
    await this.client.resume({ signal, emptyDeviceCache: true });
    this.#paused = false;
    this.#isOthersPause = false;
    this.#hasGenerated = true;
    this.#isEmptied = false;
  }

  /** Ends our pause: it generates again, unless somebody else wants it paused. */
  async endPause(signal: AbortSignal): Promise<void> {
    if (!this.#isOthersPause) return await this.resume(signal);
    this.#paused = false;
    this.#isEmptied = false;
  }

  /** Leaves it to somebody else, who is to resume it. */
  protected forgetPause(): void {
    this.#paused = false;
  }

  /** The version that it last told, or was given. */
  abstract get weightVersion(): string | null;

  /** Whether it holds some of the new weights only, or nobody knows. */
  protected abstract get isPartial(): boolean;
}
