import { StateError } from "../errors.ts";
import type { ControlledServer } from "../fleet/mod.ts";
import { namingPermission } from "../internal/permission.ts";
import { isMissingFile } from "../internal/regular_file.ts";

/** Most bytes that are read at a time. */
const CHUNK = 1 << 20;

/** The end of a log file, and what is added to it. */
export class LogTail {
  /** Whose log it is. */
  readonly url: string;
  #file: string;
  #at = 0;
  // A chunk may end within a letter.
  #decoder = new TextDecoder();

  /**
   * Reads nothing yet.
   *
   * @throws {StateError} It has no log file.
   */
  constructor({ url, logFile }: Pick<ControlledServer, "url" | "logFile">) {
    if (logFile === null) throw new StateError(`${url} has no log file`);
    this.url = url;
    this.#file = logFile;
  }

  /** The last lines, of at most 1 MiB. */
  async last(lines: number): Promise<string> {
    const { size } = await this.#named(() => Deno.stat(this.#file));
    this.#at = Math.max(0, size - CHUNK);
    const text = (await this.more()).trimEnd().split("\n");
    return lines === 0 ? "" : `${text.slice(-lines).join("\n")}\n`;
  }

  /** What came since, of at most 1 MiB; a file that was emptied is read from its beginning. */
  async more(): Promise<string> {
    try {
      using file = await this.#named(() => Deno.open(this.#file));
      const { size } = await file.stat();
      if (size < this.#at) this.#at = 0;
      await file.seek(this.#at, Deno.SeekMode.Start);
      const buffer = new Uint8Array(CHUNK);
      const count = await file.read(buffer) ?? 0;
      this.#at += count;
      return this.#decoder.decode(buffer.subarray(0, count), { stream: true });
    } catch (error) {
      // The log of a process that has ended may be gone before that of the next is known.
      if (isMissingFile(error)) return "";
      throw error;
    }
  }

  /** Goes on with the file that the server has now; tells whether it is another one. */
  follow({ logFile }: Pick<ControlledServer, "logFile">): boolean {
    if (logFile === null || logFile === this.#file) return false;
    this.#file = logFile;
    this.#at = 0;
    this.#decoder = new TextDecoder();
    return true;
  }

  async #named<T>(work: () => Promise<T>): Promise<T> {
    return await namingPermission(`--allow-read=${this.#file}`, `read ${this.#file}`, work);
  }
}
