import { UnreachableError } from "../errors.ts";
import { ByteQueue } from "../internal/byte_queue.ts";
import { messageOf } from "../internal/thrown.ts";
import { orAborted } from "../internal/or_aborted.ts";

const READ_BYTES = 64 * 1024;

/** A socket that is read in exact amounts; a read can be given up without losing a byte. */
export class ByteStream {
  readonly #socket: Deno.TcpConn;
  readonly #peer: string;
  readonly #queue = new ByteQueue();
  readonly #buffer = new Uint8Array(READ_BYTES);
  #arrival: Promise<void> | undefined;
  #error: Error | undefined;

  /** Takes over `socket`; errors call the other side `peer`. */
  constructor(socket: Deno.TcpConn, peer: string) {
    this.#socket = socket;
    this.#peer = peer;
  }

  /** Own address of the socket. */
  get localHostname(): string {
    return this.#socket.localAddr.hostname;
  }

  /** The next `length` bytes. When `signal` fires they stay for the next read. */
  async read(length: number, signal: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    for (;;) {
      signal.throwIfAborted();
      const bytes = this.#queue.take(length);
      if (bytes !== undefined) return bytes;
      if (this.#error !== undefined) throw this.#error;
      await orAborted(this.#arrival ??= this.#receive(), signal);
    }
  }

  /** Sends all of `bytes`. When `signal` fires before that, the stream must be closed. */
  async write(bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    if (this.#error !== undefined) throw this.#error;
    try {
      for (let sent = 0; sent < bytes.length;) {
        sent += await orAborted(this.#socket.write(bytes.subarray(sent)), signal);
      }
    } catch (error) {
      if (!signal.aborted) this.#lose(error);
      throw this.#error ?? error;
    }
  }

  /** Closes the socket; reads and writes fail with `reason` from now on. */
  close(reason: Error): void {
    if (this.#error !== undefined) return;
    this.#error = reason;
    this.#socket.close();
  }

  #lose(cause: unknown): void {
    const why = messageOf(cause);
    const { hostname, port } = this.#socket.remoteAddr;
    this.close(
      new UnreachableError(`Connection to ${this.#peer} was lost: ${why}`, {
        cause,
        url: `tcp://${hostname}:${port}`,
      }),
    );
  }

  /** Never rejects: what went wrong is kept for the reader. */
  async #receive(): Promise<void> {
    try {
      const length = await this.#socket.read(this.#buffer);
      if (length === null) this.#lose(new Error("closed by the other side"));
      else this.#queue.push(this.#buffer.subarray(0, length));
    } catch (error) {
      this.#lose(error);
    } finally {
      this.#arrival = undefined;
    }
  }
}
