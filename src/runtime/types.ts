/** What this library needs of the program that runs it: Deno, Node or Bun. */

/** An end of a connection. */
export interface NetAddress {
  readonly hostname: string;
  readonly port: number;
}

/** A connection; a call that is under way when it is closed fails. */
export interface Connection {
  /** Fills a part of `target`; `null` at the end. */
  read(target: Uint8Array): Promise<number | null>;
  /** Writes the first bytes, and tells how many. */
  write(bytes: Uint8Array): Promise<number>;
  close(): void;
  /** Lets it keep the process alive, as it does at first; where the program can choose. */
  ref?(): void;
  /** Lets it no longer keep the process alive. */
  unref?(): void;
}

/** A connection of TCP. */
export interface TcpConnection extends Connection {
  setNoDelay(noDelay?: boolean): void;
}

/** How a connection is encrypted. */
export interface TlsOptions {
  /** The name that the certificate must have. */
  readonly hostname: string;
  /** Certificates, in PEM, that are trusted besides those of the program. */
  readonly caCerts: readonly string[];
  /** Closes it, before the handshake is over. */
  readonly signal: AbortSignal;
}

/** What the system says of a path. */
export interface FileInfo {
  readonly isFile: boolean;
  readonly isDirectory: boolean;
  readonly isSymlink: boolean;
  readonly isFifo: boolean | null;
  readonly isSocket: boolean | null;
  readonly isCharDevice: boolean | null;
  readonly isBlockDevice: boolean | null;
  readonly size: number;
  readonly mtime: Date | null;
  readonly ctime: Date | null;
  readonly ino: number | null;
  readonly dev: number;
}

/** One name in a folder. */
export interface FolderEntry {
  readonly name: string;
  readonly isFile: boolean;
  readonly isDirectory: boolean;
  readonly isSymlink: boolean;
}

/** How a file is opened; to read without any of them. */
export interface OpenOptions {
  readonly read?: boolean;
  readonly write?: boolean;
  readonly append?: boolean;
  /** Makes it where it is not there. */
  readonly create?: boolean;
  /** Makes it, and fails where it is there. */
  readonly createNew?: boolean;
  readonly truncate?: boolean;
}

/** An open file with one place in it. */
export interface OpenFile extends Disposable {
  /** Fills a part of `target`; `null` at the end. */
  read(target: Uint8Array): Promise<number | null>;
  /** Writes the first bytes, and tells how many. */
  write(bytes: Uint8Array): Promise<number>;
  /** Goes to a place, counted from the start. */
  seek(offset: number, whence: 0): Promise<number>;
  stat(): Promise<FileInfo>;
  /** Waits until the disk has it. */
  sync(): Promise<void>;
  close(): void;
}

/** A server of HTTP that listens. */
export interface HttpServer {
  readonly addr: NetAddress;
  /** Resolves once it listens no more and nobody is answered. */
  readonly finished: Promise<void>;
  /** Listens no more; calls under way are answered first. */
  shutdown(): Promise<void>;
}

/** How {@linkcode Runtime.serve} listens. */
export interface ServeOptions extends NetAddress {
  /** Ends it at once, with its connections. */
  readonly signal?: AbortSignal | undefined;
  /** Answers; its signal fires when nobody waits for the answer any more. */
  readonly handler: (request: Request) => Response | Promise<Response>;
  /** The answer where `handler` threw. */
  readonly onError: (error: unknown) => Response;
}

/** What may be asked for a permission; only Deno has them. */
export type Permission =
  | { readonly name: "env"; readonly variable: string }
  | { readonly name: "net"; readonly host: string }
  | { readonly name: "read" | "write"; readonly path: string };

/** What this library calls of Deno, Node or Bun. Errors are the program's: see `isSystemError`. */
export interface Runtime {
  readonly name: "deno" | "node" | "bun";
  /** Number of this process. */
  readonly pid: number;
  /** Whether something may be done without a question in the terminal. */
  isGranted(permission: Permission): boolean;
  /** A variable of the environment. */
  env(name: string): string | undefined;

  connect(to: NetAddress & { readonly signal: AbortSignal }): Promise<TcpConnection>;
  /** Encrypts a connection; resolves after the handshake. */
  startTls(connection: TcpConnection, options: TlsOptions): Promise<Connection>;
  serve(options: ServeOptions): Promise<HttpServer>;

  open(path: string | URL, options?: OpenOptions): Promise<OpenFile>;
  stat(path: string): Promise<FileInfo>;
  /** Like `stat`, of a link itself. */
  lstat(path: string): Promise<FileInfo>;
  readFile(
    path: string,
    options?: { readonly signal?: AbortSignal },
  ): Promise<Uint8Array<ArrayBuffer>>;
  writeTextFile(path: string, text: string): Promise<void>;
  readDir(path: string): AsyncIterable<FolderEntry>;
  mkdir(path: string, options?: { readonly recursive?: boolean }): Promise<void>;
  remove(path: string, options?: { readonly recursive?: boolean }): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  makeTempDir(options: { readonly dir: string; readonly prefix: string }): Promise<string>;
}
