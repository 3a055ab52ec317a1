import { StateError } from "../errors.ts";
import { namingPermission } from "../internal/permission.ts";
import { Semaphore } from "../internal/semaphore.ts";
import { writeAll } from "../internal/write_all.ts";
import { type OpenFile, runtime } from "../runtime/mod.ts";

/** A file that grows; writes come one after the other and each is whole. */
export class AppendFile {
  readonly #file: OpenFile;
  readonly #turn = new Semaphore(1);
  #isClosed = false;

  private constructor(file: OpenFile) {
    this.#file = file;
  }

  /** Opens a file to go on with it. */
  static async open(path: string): Promise<AppendFile> {
    return await namingPermission(
      `--allow-write=${path}`,
      `write ${path}`,
      async () => new AppendFile(await runtime().open(path, { append: true, create: true })),
    );
  }

  async write(bytes: Uint8Array): Promise<void> {
    using _turn = await this.#turn.acquire();
    if (this.#isClosed) throw new StateError("Cannot log: the sink was disposed of");
    await writeAll(this.#file, bytes);
  }

  async close(): Promise<void> {
    using _turn = await this.#turn.acquire();
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#file.close();
  }
}
