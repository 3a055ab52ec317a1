import type {
  Connection,
  FileInfo,
  FolderEntry,
  HttpServer,
  NetAddress,
  OpenFile,
  OpenOptions,
  Runtime,
  ServeOptions,
  TcpConnection,
  TlsOptions,
} from "../types.ts";
import { builtin } from "./builtin.ts";
import { connectTcp, startTls } from "./connection.ts";
import { infoOf, openFile, readFolder } from "./files.ts";
import { serve } from "./serve.ts";

/** Node, and Bun, which has the modules of Node. */
export class NodeRuntime implements Runtime {
  readonly name: "node" | "bun" = "Bun" in globalThis ? "bun" : "node";

  get pid(): number {
    return builtin("node:process").pid;
  }

  /** Nobody is asked in the terminal: what is refused fails. */
  isGranted(): boolean {
    return true;
  }

  env(name: string): string | undefined {
    return builtin("node:process").env[name];
  }

  connect(to: NetAddress & { readonly signal: AbortSignal }): Promise<TcpConnection> {
    return connectTcp(to);
  }

  startTls(connection: TcpConnection, options: TlsOptions): Promise<Connection> {
    return startTls(connection, options);
  }

  serve(options: ServeOptions): Promise<HttpServer> {
    return serve(options);
  }

  open(path: string | URL, options?: OpenOptions): Promise<OpenFile> {
    return openFile(path, options);
  }

  async stat(path: string): Promise<FileInfo> {
    return infoOf(await builtin("node:fs/promises").stat(path));
  }

  async lstat(path: string): Promise<FileInfo> {
    return infoOf(await builtin("node:fs/promises").lstat(path));
  }

  async readFile(
    path: string,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = await builtin("node:fs/promises").readFile(path, options);
    return new Uint8Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
  }

  async writeTextFile(path: string, text: string): Promise<void> {
    await builtin("node:fs/promises").writeFile(path, text);
  }

  readDir(path: string): AsyncIterable<FolderEntry> {
    return readFolder(path);
  }

  async mkdir(path: string, options: { readonly recursive?: boolean } = {}): Promise<void> {
    await builtin("node:fs/promises").mkdir(path, options);
  }

  async remove(path: string, { recursive = false } = {}): Promise<void> {
    const files = builtin("node:fs/promises");
    if (recursive) return await files.rm(path, { recursive });
    const isFolder = (await files.lstat(path)).isDirectory();
    await (isFolder ? files.rmdir(path) : files.unlink(path));
  }

  async rename(from: string, to: string): Promise<void> {
    await builtin("node:fs/promises").rename(from, to);
  }

  async makeTempDir(
    { dir, prefix }: { readonly dir: string; readonly prefix: string },
  ): Promise<string> {
    return await builtin("node:fs/promises").mkdtemp(`${dir}/${prefix}`);
  }
}
