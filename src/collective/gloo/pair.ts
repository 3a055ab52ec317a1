import { ProtocolError, SGLangError, UnreachableError } from "../../errors.ts";
import { systemClock } from "../../internal/clock.ts";
import { messageOf } from "../../internal/thrown.ts";
import { encodeHead, HEAD_BYTES, Opcode, parseHead, tagOf } from "./wire.ts";

/** Bytes read at once while no payload arrives. */
const READ_BYTES = 64 * 1024;
/** A payload up to this size leaves in one write with its head. */
const JOIN_BYTES = 64 * 1024;
/** Time for a payload that is on the wire to arrive when a connection ends. */
export const GRACE_MS = 5_000;
/** Announcements that a peer may make before we send. */
const MAX_ANNOUNCED = 65_536;

interface PendingSend {
  readonly slot: bigint;
  readonly bytes: Uint8Array;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

interface PendingReceive {
  readonly target: Uint8Array;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

interface Outgoing {
  readonly parts: readonly Uint8Array[];
  readonly send: PendingSend | undefined;
}

/**
 * The connection of two ranks. A payload leaves only after the other side has said that it expects
 * it, and only if it expects exactly as many bytes: torch would abort its process over one too many
 * and would take one too few for success.
 */
export class Pair {
  /** The other rank. */
  readonly rank: number;
  readonly #socket: Deno.TcpConn;
  readonly #onEnd: (error: Error) => void;
  /** Sends that the other side has not asked for yet, by slot. */
  readonly #sends = new Map<bigint, PendingSend>();
  /** Lengths that the other side asked for before we sent, by slot. */
  readonly #announced = new Map<bigint, number>();
  readonly #receives = new Map<bigint, PendingReceive>();
  readonly #outbox: Outgoing[] = [];
  readonly #reading: Promise<void>;
  #writing: Promise<void> | undefined;
  #error: Error | undefined;
  #ending: Promise<void> | undefined;

  /** Takes over `socket`; `onEnd` is called once with the reason why the pair can no longer be used. */
  constructor(rank: number, socket: Deno.TcpConn, onEnd: (error: Error) => void) {
    this.rank = rank;
    this.#socket = socket;
    this.#onEnd = onEnd;
    socket.setNoDelay(true);
    this.#reading = this.#read();
  }

  /** Sends `bytes`, which must not change meanwhile; resolves when the kernel has them all. */
  send(slot: bigint, bytes: Uint8Array): Promise<void> {
    if (this.#error !== undefined) return Promise.reject(this.#error);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const send = { slot, bytes, resolve, reject };
    const notice = encodeHead({ opcode: Opcode.notifySendReady, slot, length: bytes.length });
    this.#write({ parts: [notice], send: undefined });
    const announced = this.#announced.get(slot);
    if (announced === undefined) this.#sends.set(slot, send);
    else {
      this.#announced.delete(slot);
      this.#sendPayload(send, announced);
    }
    return promise;
  }

  /** Asks for exactly `target.length` bytes and fills `target` with them. */
  receive(slot: bigint, target: Uint8Array): Promise<void> {
    if (this.#error !== undefined) return Promise.reject(this.#error);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#receives.set(slot, { target, resolve, reject });
    const notice = encodeHead({ opcode: Opcode.notifyRecvReady, slot, length: target.length });
    this.#write({ parts: [notice], send: undefined });
    return promise;
  }

  /**
   * Ends the pair: what has not begun fails with `error`; a payload that is on the wire is finished
   * first and the other side left time to read it, at most `graceMs`, since half a payload leaves a
   * torch peer waiting for its group's timeout (30 minutes). Resolves when the socket is closed.
   * Never rejects.
   */
  end(error: Error, graceMs: number): Promise<void> {
    if (this.#ending === undefined) {
      const { promise, resolve } = Promise.withResolvers<void>();
      // Set before `onEnd` is called, which may call this again.
      this.#ending = promise;
      void this.#end(error, graceMs).then(resolve);
    }
    return this.#ending;
  }

  async #end(error: Error, graceMs: number): Promise<void> {
    this.#error = error;
    for (const send of this.#sends.values()) send.reject(error);
    this.#sends.clear();
    this.#announced.clear();
    for (const { send } of this.#outbox.splice(0)) send?.reject(error);
    for (const receive of this.#receives.values()) receive.reject(error);
    this.#receives.clear();
    this.#onEnd(error);
    const leaving = graceMs > 0 ? this.#leave() : undefined;
    if (leaving !== undefined) await settledWithin(leaving, graceMs);
    this.#socket.close();
    await Promise.all([leaving, this.#writing, this.#reading]);
  }

  /**
   * Finishes what is on the wire, says that no more comes, and reads on until the other side closes.
   * A socket that is closed while bytes of the other side are unread, or still come, is reset by the
   * kernel, and a reset throws away what the other side has not read: half a payload again.
   */
  async #leave(): Promise<void> {
    try {
      await this.#writing;
      await this.#socket.closeWrite();
      await this.#reading;
      const ignored = new Uint8Array(READ_BYTES);
      while (await this.#socket.read(ignored) !== null);
    } catch {
      // The connection is lost, or was closed because the time is up.
    }
  }

  #lost(error: unknown): void {
    if (error instanceof SGLangError) {
      void this.end(error, GRACE_MS);
      return;
    }
    const why = messageOf(error);
    const { hostname, port } = this.#socket.remoteAddr as Deno.NetAddr;
    void this.end(
      new UnreachableError(`gloo: connection to rank ${this.rank} was lost: ${why}`, {
        cause: error,
        url: `tcp://${hostname}:${port}`,
      }),
      0,
    );
  }

  #write(item: Outgoing): void {
    this.#outbox.push(item);
    this.#writing ??= this.#drain();
  }

  async #drain(): Promise<void> {
    let current: Outgoing | undefined;
    try {
      while ((current = this.#outbox.shift()) !== undefined) {
        for (const part of current.parts) await this.#writeAll(part);
        current.send?.resolve();
      }
    } catch (error) {
      this.#lost(error);
      current?.send?.reject(this.#error!);
    } finally {
      this.#writing = undefined;
    }
  }

  async #writeAll(bytes: Uint8Array): Promise<void> {
    for (let sent = 0; sent < bytes.length;) {
      sent += await this.#socket.write(bytes.subarray(sent));
    }
  }

  async #read(): Promise<void> {
    const buffer = new Uint8Array(READ_BYTES);
    let start = 0;
    let end = 0;
    try {
      for (;;) {
        if (end - start < HEAD_BYTES) {
          buffer.copyWithin(0, start, end);
          end -= start;
          start = 0;
          end += await this.#readSome(buffer.subarray(end));
          continue;
        }
        const head = parseHead(buffer.subarray(start, start + HEAD_BYTES));
        start += HEAD_BYTES;
        if (head.opcode === Opcode.notifyRecvReady) this.#onAsked(head.slot, head.length);
        // A notice of a send needs no answer: receives are asked for on their own.
        if (head.opcode !== Opcode.sendUnboundBuffer) continue;
        const receive = this.#takeReceive(head.slot, head.length);
        const early = buffer.subarray(start, Math.min(end, start + head.length));
        start += early.length;
        await this.#fill(receive, early);
      }
    } catch (error) {
      this.#lost(error);
    }
  }

  async #readSome(target: Uint8Array): Promise<number> {
    const length = await this.#socket.read(target);
    if (length === null) throw new Error("closed by the other side");
    return length;
  }

  async #fill(receive: PendingReceive, early: Uint8Array): Promise<void> {
    const { target, resolve, reject } = receive;
    try {
      target.set(early);
      for (let filled = early.length; filled < target.length;) {
        filled += await this.#readSome(target.subarray(filled));
      }
      resolve();
    } catch (error) {
      this.#lost(error);
      reject(this.#error!);
      throw error;
    }
  }

  #takeReceive(slot: bigint, length: number): PendingReceive {
    const receive = this.#receives.get(slot);
    if (receive === undefined) {
      throw new ProtocolError(
        `gloo: rank ${this.rank} sent broadcast ${tagOf(slot)}, which was not asked for`,
      );
    }
    if (receive.target.length !== length) {
      throw new ProtocolError(
        `gloo: rank ${this.rank} sent ${length} bytes in broadcast ${tagOf(slot)} where ` +
          `${receive.target.length} were asked for`,
      );
    }
    this.#receives.delete(slot);
    return receive;
  }

  #onAsked(slot: bigint, length: number): void {
    const send = this.#sends.get(slot);
    if (send !== undefined) {
      this.#sends.delete(slot);
      this.#sendPayload(send, length);
      return;
    }
    if (this.#error !== undefined) return;
    if (this.#announced.has(slot)) {
      throw new ProtocolError(`gloo: rank ${this.rank} asks for broadcast ${tagOf(slot)} twice`);
    }
    if (this.#announced.size >= MAX_ANNOUNCED) {
      throw new ProtocolError(`gloo: rank ${this.rank} asks for over ${MAX_ANNOUNCED} broadcasts`);
    }
    this.#announced.set(slot, length);
  }

  #sendPayload(send: PendingSend, askedBytes: number): void {
    const { slot, bytes } = send;
    if (askedBytes !== bytes.length) {
      const error = new ProtocolError(
        `gloo: rank ${this.rank} expects ${askedBytes} bytes in broadcast ${tagOf(slot)} where ` +
          `${bytes.length} are to be sent: the server was told another dtype, shape or order`,
      );
      send.reject(error);
      this.#lost(error);
      return;
    }
    const head = encodeHead({ opcode: Opcode.sendUnboundBuffer, slot, length: bytes.length });
    this.#write({ parts: bytes.length <= JOIN_BYTES ? [join(head, bytes)] : [head, bytes], send });
  }
}

function join(head: Uint8Array, payload: Uint8Array): Uint8Array {
  const message = new Uint8Array(head.length + payload.length);
  message.set(head);
  message.set(payload, head.length);
  return message;
}

async function settledWithin(work: Promise<void>, limitMs: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const cancel = systemClock.schedule(limitMs, resolve);
  await Promise.race([work, promise]);
  cancel();
}
