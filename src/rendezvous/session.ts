import { ProtocolError } from "../errors.ts";
import type { StoreLimits } from "./limits.ts";
import { RequestParser, type StoreRequest } from "./request.ts";
import type { KeyTable } from "./table.ts";
import { CHECK_NOT_READY, CHECK_READY, MessageWriter, WAIT_CANCELED, WAIT_DONE } from "./wire.ts";

/**
 * One client's conversation with the store, without a socket: bytes in, answers out. It throws a
 * `ProtocolError` when the client must be dropped; what other clients stored is not touched.
 */
export class StoreSession {
  readonly #table: KeyTable;
  readonly #limits: StoreLimits;
  readonly #reply: (answer: Uint8Array) => void;
  readonly #parser: RequestParser;
  #validated = false;
  #lastOp: StoreRequest["op"] | undefined;
  #wait: { forget: () => void; bytes: number } | undefined;

  /** Begins a conversation; `reply` takes each answer, in order. */
  constructor(
    table: KeyTable,
    options: { limits: StoreLimits; reply: (answer: Uint8Array) => void },
  ) {
    this.#table = table;
    this.#limits = options.limits;
    this.#reply = options.reply;
    this.#parser = new RequestParser(options.limits);
  }

  /** Whether the client has said that it speaks the protocol. */
  get validated(): boolean {
    return this.#validated;
  }

  /** What the client asked last. */
  get lastOp(): string | undefined {
    return this.#lastOp;
  }

  /** Bytes held for the client: a request that is not complete, and the keys it waits for. */
  get heldBytes(): number {
    return this.#parser.bufferedBytes + (this.#wait?.bytes ?? 0);
  }

  /** Adds what arrived. */
  push(chunk: Uint8Array): void {
    this.#parser.push(chunk);
  }

  /** Answers the next request; `false` when there is no whole one. */
  step(): boolean {
    const request = this.#parser.next();
    if (request === undefined) return false;
    this.#check(request);
    this.#lastOp = request.op;
    this.#handle(request);
    return true;
  }

  /** Ends the conversation: a wait that is open is forgotten. */
  close(): void {
    this.#wait?.forget();
    this.#wait = undefined;
  }

  #check(request: StoreRequest): void {
    if (request.op === "validate") {
      this.#validated = true;
      return;
    }
    if (!this.#validated) throw new ProtocolError(`TCPStore: ${request.op} before VALIDATE`);
    if (this.#wait !== undefined && request.op !== "cancelWait") {
      throw new ProtocolError(`TCPStore: ${request.op} while a WAIT is open`);
    }
  }

  #handle(request: StoreRequest): void {
    const table = this.#table;
    const answer = new MessageWriter();
    switch (request.op) {
      case "validate":
        return;
      case "ping":
        return this.#reply(request.nonce);
      case "set":
        return table.set(request.key, request.value);
      case "append":
        return table.append(request.key, request.value);
      case "multiSet":
        for (const [key, value] of request.entries) table.set(key, value);
        return;
      case "compareSet":
        answer.bytes(table.compareSet(request.key, request.expected, request.desired));
        break;
      case "get":
        answer.bytes(this.#existing(request.key));
        break;
      case "multiGet":
        this.#multiGet(request.keys, answer);
        break;
      case "add":
        answer.i64(table.add(request.key, request.delta));
        break;
      case "check":
        answer.u8(request.keys.every((key) => table.get(key)) ? CHECK_READY : CHECK_NOT_READY);
        break;
      case "getNumKeys":
        answer.u64(table.size);
        break;
      case "deleteKey":
        answer.u64(table.delete(request.key) ? 1 : 0);
        break;
      case "wait":
        return this.#beginWait(request.keys);
      case "cancelWait":
        this.close();
        answer.u8(WAIT_CANCELED);
        break;
    }
    this.#reply(answer.finish());
  }

  #existing(key: string): Uint8Array {
    const value = this.#table.read(key);
    if (value === undefined) throw new ProtocolError(`TCPStore: GET of missing key "${key}"`);
    return value;
  }

  #multiGet(keys: readonly string[], answer: MessageWriter): void {
    let sizeBytes = 0;
    for (const key of keys) {
      const value = this.#existing(key);
      sizeBytes += 8 + value.length;
      if (sizeBytes > this.#limits.maxMessageBytes) {
        throw new ProtocolError(
          `TCPStore: answer is longer than ${this.#limits.maxMessageBytes} bytes`,
        );
      }
      answer.bytes(value);
    }
  }

  #beginWait(keys: readonly string[]): void {
    let ended = false;
    const forget = this.#table.whenAll(keys, () => {
      ended = true;
      this.#wait = undefined;
      this.#reply(Uint8Array.of(WAIT_DONE));
    });
    if (ended) return;
    const bytes = keys.reduce((sum, key) => sum + 8 + 2 * key.length, 0);
    this.#wait = { forget, bytes };
  }
}
