import { StateError } from "../errors.ts";
import { namingPermission } from "../internal/permission.ts";
import { Semaphore } from "../internal/semaphore.ts";
import { writeAll } from "../internal/write_all.ts";
import { type OpenFile, runtime } from "../runtime/mod.ts";

/** A file that grows; writes come one after the other and each is whole. */
export class AppendFile {
  readonly #path: string;
  readonly #file: OpenFile;
  readonly #turn = new Semaphore(1);
  #isClosed = false;

  private constructor(path: string, file: OpenFile) {
    this.#path = path;
    this.#file = file;
  }

  /** Opens a file to go on with it. */
  static async open(path: string): Promise<AppendFile> {
    return await namingPermission(
      `--allow-write=${path}`,
      `write ${path}`,
      async () => new AppendFile(path, await runtime().open(path, { append: true, create: true })),
    );
  }

  async write(bytes: Uint8Array): Promise<void> {
    using _turn = await this.#turn.acquire();
    if (this.#isClosed) throw new StateError("Cannot log: the sink was disposed of");
    const path = this.#path;
    await namingPermission(
      `--allow-write=${path}`,
      `write ${path}`,
      () => writeAll(this.#file, bytes),
    );
  }

  async close(): Promise<void> {
    using _turn = await this.#turn.acquire();
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#file.close();
  }
}
