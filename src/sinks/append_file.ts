import { namingPermission } from "../internal/permission.ts";
import { writeAll } from "../internal/write_all.ts";

/** A file that grows; writes come one after the other and each is whole. */
export class AppendFile {
  readonly #file: Deno.FsFile;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(file: Deno.FsFile) {
    this.#file = file;
  }

  /** Opens a file to go on with it. */
  static async open(path: string): Promise<AppendFile> {
    return await namingPermission(
      `--allow-write=${path}`,
      `write ${path}`,
      async () => new AppendFile(await Deno.open(path, { append: true, create: true })),
    );
  }

  write(bytes: Uint8Array): Promise<void> {
    const mine = this.#last.then(() => writeAll(this.#file, bytes));
    this.#last = mine.catch(() => {});
    return mine;
  }

  async close(): Promise<void> {
    await this.#last;
    this.#file.close();
  }
}
