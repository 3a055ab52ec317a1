import { LimitError, ProtocolError, SGLangError, UnreachableError } from "../errors.ts";
import { messageOf } from "../internal/thrown.ts";
import { BodyReader } from "./body.ts";
import { ByteReader } from "./byte_reader.ts";
import { framingOf, parseHead, type ResponseHead } from "./message.ts";
import { type HeadLimits, readHead } from "./read_head.ts";
import { closeQuietly } from "../runtime/close_quietly.ts";
import type { Connection } from "../runtime/mod.ts";

/** Answers before the answer, such as `100 Continue`, that are passed over. */
const INTERIM_ANSWERS = 8;

/** One connection to a server, on which one request follows another. */
export class HttpSocket implements Disposable {
  readonly #socket: Connection;
  readonly #bytes: ByteReader;
  readonly #limits: HeadLimits | undefined;
  #isResting = false;
  #answers = 0;

  constructor(socket: Connection, limits?: HeadLimits) {
    this.#socket = socket;
    this.#limits = limits;
    this.#bytes = new ByteReader((target) => socket.read(target));
  }

  /** Answers that came over it. */
  get answers(): number {
    return this.#answers;
  }

  /** Bytes that nobody asked for: the connection is of no use any more. */
  get hasLeftovers(): boolean {
    return this.#bytes.buffered > 0;
  }

  /**
   * Is idle from now on, without holding the event loop. `onEnd` is called as soon as the connection
   * is of no use: a server that ends or restarts closes it, and then no request may be lost on it.
   */
  rest(onEnd: () => void): void {
    hold(this.#socket, false);
    this.#isResting = true;
    this.#bytes.watch().then(() => {
      if (this.#isResting) onEnd();
    });
  }

  /** Is in use again. */
  wake(): void {
    this.#isResting = false;
    hold(this.#socket, true);
  }

  /** Writes a request and reads the head of its answer. */
  async exchange(request: Uint8Array): Promise<{ head: ResponseHead; body: BodyReader }> {
    const unwritten = await this.#write(request);
    try {
      return await this.#answer();
    } catch (error) {
      throw unwritten ?? error;
    }
  }

  /** Writes; a peer may answer and close before it has read everything, so a failure is only kept. */
  async #write(request: Uint8Array): Promise<unknown> {
    try {
      for (let written = 0; written < request.length;) {
        written += await this.#socket.write(request.subarray(written));
      }
      return undefined;
    } catch (error) {
      return error;
    }
  }

  async #answer(): Promise<{ head: ResponseHead; body: BodyReader }> {
    for (let i = 0; i <= INTERIM_ANSWERS; i++) {
      const head = parseHead(await readHead(this.#bytes, this.#limits));
      if (head.status === 101) break;
      if (head.status < 200) continue;
      const body = new BodyReader(this.#bytes, framingOf(head));
      this.#answers++;
      return { head, body };
    }
    throw new ProtocolError(`not HTTP: more than ${INTERIM_ANSWERS} answers before the answer`);
  }

  /** Closes it; what is under way on it fails. */
  [Symbol.dispose](): void {
    this.#isResting = false;
    closeQuietly(this.#socket);
  }
}

/** Puts the endpoint and the address into what went wrong on a connection. */
export function exchangeError(
  error: unknown,
  { endpoint, origin }: { endpoint: string; origin: string },
): unknown {
  if (error instanceof ProtocolError) {
    return new ProtocolError(`${endpoint} at ${origin}: ${error.message}`, { cause: error });
  }
  if (error instanceof LimitError) {
    const { limit, max } = error;
    return new LimitError(`${endpoint} at ${origin}: ${error.message}`, {
      limit,
      max,
      cause: error,
    });
  }
  if (error instanceof SGLangError && !(error instanceof UnreachableError)) return error;
  if (error instanceof UnreachableError && error.url !== "") return error;
  return new UnreachableError(
    `Cannot connect to SGLang server at ${origin} (${endpoint}): connection lost ` +
      `(${messageOf(error)}). The server closed the connection; read its log`,
    { url: origin, reason: "lost", cause: error },
  );
}

/** Whether what is under way on a connection keeps the process alive. */
function hold(socket: Connection, holds: boolean): void {
  if (holds) socket.ref?.();
  else socket.unref?.();
}
