import { tensorSizeBytes } from "../checkpoint/dtype.ts";
import { ProtocolError, StateError, UnreachableError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import type { Logger } from "../internal/logger.ts";
import { asError, messageOf } from "../internal/thrown.ts";
import { writeAll } from "../internal/write_all.ts";
import { closeQuietly } from "../runtime/close_quietly.ts";
import { Asks } from "./asks.ts";
import { DeviceMaps } from "./device_maps.ts";
import {
  encodeFree,
  encodeHead,
  encodeMessage,
  FrameKind,
  type FrameReader,
  MAX_BYTES_FRAME,
  MAX_MESSAGE_BYTES,
} from "./frames.ts";
import type { TrainerName, TrainerWay } from "./greeting.ts";
import { Pings } from "./pings.ts";
import { type PushOffer, readOffer } from "./push_offer.ts";
import type { Ring } from "./ring.ts";
import { type Landing, Wants } from "./wants.ts";

/** How long bytes that are on their way may take to come when nobody wants them any more. */
const LAST_BYTES_MS = 2000;
/** Bytes between two looks at whether they are still wanted. */
const PIECE_BYTES = 1 << 20;

/** What a connection tells its link. */
export interface ConnectionEvents {
  /** A trainer wants to push. */
  push(connection: TrainerConnection, offer: PushOffer): void;
  /** A trainer can take a batch. */
  take(connection: TrainerConnection): void;
}

/** The push that is open on a connection. */
interface OpenPush {
  readonly offer: PushOffer;
  readonly wants: Wants;
  /** What is being done, for both sides' errors. */
  progress: string;
}

/** One trainer that is connected and known. */
export class TrainerConnection {
  /** What it calls itself. */
  readonly name: string;
  /** How its weights travel. */
  readonly way: TrainerWay;
  /** Why they travel so, in its words; empty where it had the best way. */
  readonly why: string;
  /** Its device memory that is mapped here. */
  readonly maps: DeviceMaps = new DeviceMaps();
  readonly #socket: Deno.Conn;
  readonly #reader: FrameReader;
  readonly #ring: Ring | undefined;
  /** Time as this connection sees it. */
  readonly clock: Clock;
  readonly #logger: Logger;
  readonly #events: ConnectionEvents;
  readonly #end = new AbortController();
  readonly #held = new Set<number>();
  readonly #copies = new Set<Promise<unknown>>();
  readonly #taken = new Map<number, () => void>();
  readonly #asks: Asks;
  readonly #pings: Pings;
  #writing: Promise<void> = Promise.resolve();
  #push: OpenPush | undefined;
  #lastPush = 0;
  #canTake = false;

  /** Takes over a socket whose greeting is done. */
  constructor(
    socket: Deno.Conn,
    reader: FrameReader,
    options: {
      readonly trainer: TrainerName;
      readonly way: TrainerWay;
      readonly why: string;
      readonly ring: Ring | undefined;
      readonly clock: Clock;
      readonly logger: Logger;
      readonly events: ConnectionEvents;
    },
  ) {
    this.#socket = socket;
    this.#reader = reader;
    this.name = options.trainer.name;
    this.way = options.way;
    this.why = options.why;
    this.#ring = options.ring;
    this.clock = options.clock;
    this.#logger = options.logger;
    this.#events = options.events;
    this.#asks = new Asks(this.name);
    this.#pings = new Pings(options.clock, () => this.send({ type: "ping" }));
  }

  /** The trainer's address, where it has one. */
  get hostname(): string | undefined {
    const { remoteAddr } = this.#socket;
    return remoteAddr.transport === "tcp" ? remoteAddr.hostname : undefined;
  }

  /** Fires when the connection has ended; its reason says why. */
  get ended(): AbortSignal {
    return this.#end.signal;
  }

  /** Whether the trainer waits for a batch. */
  get canTake(): boolean {
    return this.#canTake && !this.#end.signal.aborted;
  }

  /** Reads until the connection ends. Never rejects. */
  async run(): Promise<void> {
    try {
      for (;;) await this.#frame();
    } catch (error) {
      this.close(asError(error));
    } finally {
      // The memory is given back only when no thread copies from it any more.
      await Promise.allSettled(this.#copies);
      await this.#ring?.close();
      await this.maps[Symbol.asyncDispose]().catch((error) => this.#logger.warn(messageOf(error)));
    }
  }

  /** Sends a message; its turn comes when those before it are out. */
  async send(message: object): Promise<void> {
    await this.#write([encodeMessage(message)]);
  }

  /** Asks for a tensor of the open push and fills `target` with it. */
  async fetch(
    push: number,
    index: number,
    target: Uint8Array,
    signal: AbortSignal,
  ): Promise<void> {
    signal.throwIfAborted();
    this.#end.signal.throwIfAborted();
    const open = this.#open(push);
    if (target.length === 0) return;
    const want = open.wants.add(index, target);
    const give = () => {
      want.cancel(signal.reason);
      if (!want.isBusy) return;
      // The memory may be used again once this rejects, so what is under way is waited for.
      const cancel = this.clock.schedule(
        LAST_BYTES_MS,
        () => this.close(new StateError(`trainer ${this.name} stopped within a tensor`)),
      );
      want.done.then(cancel, cancel);
    };
    signal.addEventListener("abort", give, { once: true });
    try {
      this.send({ type: "want", push, tensor: index }).catch(() => {});
      await want.done;
    } finally {
      signal.removeEventListener("abort", give);
    }
  }

  /** Asks the trainer, which is rank 0 of the servers' groups, for something within its push. */
  async ask(message: object, signal: AbortSignal): Promise<Record<string, unknown>> {
    const push = this.#push?.offer.id;
    return await this.#asks.ask((ask) => this.send({ ...message, push, ask }), signal);
  }

  /** Tells the trainer how far its push is. */
  progress(push: number, phase: string): void {
    if (this.#push?.offer.id !== push || this.#push.progress === phase) return;
    this.#push.progress = phase;
    this.send({ type: "progress", push, phase }).catch(() => {});
  }

  /** Ends the open push; the trainer hears how. */
  async settle(push: number, outcome: object): Promise<void> {
    const open = this.#push;
    if (open?.offer.id !== push) return;
    this.#push = undefined;
    this.#pings.stop();
    open.wants.fail(new StateError("The push has ended"));
    await this.send({ ...outcome, push });
  }

  /** Sends a batch; resolves when the trainer has it. */
  async sendBatch(
    batch: number,
    content: { readonly byteLength: number; pieces(): Iterable<Uint8Array> },
  ): Promise<void> {
    this.#canTake = false;
    const taken = Promise.withResolvers<void>();
    const onEnd = () => taken.reject(this.#end.signal.reason);
    taken.promise.catch(() => {});
    this.#taken.set(batch, taken.resolve);
    this.#end.signal.addEventListener("abort", onEnd, { once: true });
    try {
      this.#end.signal.throwIfAborted();
      await this.send({ type: "batch", batch, bytes: content.byteLength });
      for (const piece of content.pieces()) {
        for (let at = 0; at < piece.length; at += MAX_BYTES_FRAME) {
          const part = piece.subarray(at, at + MAX_BYTES_FRAME);
          const head = { kind: FrameKind.batch, push: 0, length: part.length };
          await this.#write([encodeHead(head), part]);
        }
      }
      await taken.promise;
    } finally {
      this.#taken.delete(batch);
      this.#end.signal.removeEventListener("abort", onEnd);
    }
  }

  /** Ends the connection; whoever waits on it hears why. */
  close(reason: Error): void {
    if (this.#end.signal.aborted) return;
    const inPush = this.#push === undefined ? "" : this.#where(this.#push);
    const error = inPush === "" ? reason : new UnreachableError(
      `The connection to trainer ${this.name} ended ${inPush}: ${reason.message}`,
      { url: `trainer ${this.name}`, reason: "lost", cause: reason },
    );
    this.#pings.stop();
    this.#end.abort(error);
    this.#push?.wants.fail(error);
    this.#asks.end(error);
    this.#push = undefined;
    closeQuietly(this.#socket);
  }

  #where({ offer, wants, progress }: OpenPush): string {
    return `in push ${offer.id} (version ${offer.version ?? "unnamed"}, ${progress}, ` +
      `${wants.landed} of ${offer.tensors.length} tensors taken)`;
  }

  #open(push: number): OpenPush {
    if (this.#push?.offer.id === push) return this.#push;
    throw new StateError(`Push ${push} of trainer ${this.name} has ended`);
  }

  async #frame(): Promise<void> {
    const { kind, push, length } = await this.#reader.head();
    switch (kind) {
      case FrameKind.message:
        return this.#hear(await this.#reader.message(length, MAX_MESSAGE_BYTES));
      case FrameKind.bytes:
        return await this.#takeBytes(push, length);
      case FrameKind.slot:
        return await this.#takeSlot(push, length);
      default:
        throw new ProtocolError(`trainer ${this.name} sent a frame of the unknown kind ${kind}`);
    }
  }

  #hear(message: Record<string, unknown>): void {
    switch (message.type) {
      case "push":
        return this.#hearPush(message);
      case "withdraw": {
        if (this.#push === undefined || this.#push.offer.id !== message.push) return;
        const why = String(message.message ?? "no reason given").slice(0, 2000);
        this.#push.wants.fail(
          new StateError(`trainer ${this.name} withdrew its push: ${why}`),
        );
        return;
      }
      case "release":
        this.maps.release().catch((error) => this.close(asError(error)));
        return;
      case "take":
        this.#canTake = true;
        return this.#events.take(this);
      case "taken":
        return this.#taken.get(message.batch as number)?.();
      case "answer":
        return this.#asks.hear(message);
      case "bye":
        throw new UnreachableError(`trainer ${this.name} said goodbye`, {
          url: `trainer ${this.name}`,
          reason: "lost",
        });
      default:
        throw new ProtocolError(
          `trainer ${this.name} sent a message of the unknown type ` +
            `${JSON.stringify(message.type)?.slice(0, 50)}`,
        );
    }
  }

  #hearPush(message: Record<string, unknown>): void {
    if (this.#push !== undefined) {
      throw new ProtocolError(`trainer ${this.name} began a push within another`);
    }
    const offer = readOffer(message, this.name);
    if (offer.memory !== undefined && this.way !== "cuda-ipc") {
      throw new ProtocolError(`trainer ${this.name} pushed device memory by ${this.way}`);
    }
    if (offer.id <= this.#lastPush) {
      throw new ProtocolError(`trainer ${this.name} used the number ${offer.id} of a push again`);
    }
    this.#lastPush = offer.id;
    const sizes = offer.tensors.map((tensor) => tensorSizeBytes(tensor));
    this.#push = { offer, wants: new Wants(sizes), progress: "waiting to be taken up" };
    this.#pings.start();
    this.#events.push(this, offer);
  }

  async #takeBytes(push: number, length: number): Promise<void> {
    if (length > MAX_BYTES_FRAME) {
      throw new ProtocolError(
        `trainer ${this.name} sent ${length} bytes in one frame; the most are ${MAX_BYTES_FRAME}`,
      );
    }
    if (this.way === "shm") {
      throw new ProtocolError(`trainer ${this.name} sent bytes although it chose ${this.way}`);
    }
    const wants = this.#wantsOf(push);
    if (wants === undefined) return await this.#reader.skip(length);
    for (let left = length; left > 0;) {
      const landing = this.#land(wants, Math.min(left, PIECE_BYTES));
      left -= landing.length;
      try {
        if (landing.target === undefined) await this.#reader.skip(landing.length);
        else await this.#reader.fill(landing.target);
      } catch (error) {
        landing.done(asError(error));
        throw error;
      }
      landing.done();
    }
  }

  async #takeSlot(push: number, length: number): Promise<void> {
    const [slot, filled] = await this.#reader.slot(length);
    const ring = this.#ring;
    const isGood = ring !== undefined && slot < ring.slots && filled <= ring.slotBytes &&
      filled > 0 && !this.#held.has(slot);
    if (!isGood) {
      throw new ProtocolError(`trainer ${this.name} sent slot ${slot} with ${filled} bytes`);
    }
    const wants = this.#wantsOf(push);
    this.#held.add(slot);
    const landings: Landing[] = [];
    for (let left = filled; left > 0 && wants !== undefined;) {
      const landing = this.#land(wants, left);
      landings.push(landing);
      left -= landing.length;
    }
    const copied = this.#copy(ring, slot, landings);
    this.#copies.add(copied);
    copied.finally(() => this.#copies.delete(copied)).catch((error) => this.close(asError(error)));
  }

  async #copy(ring: Ring, slot: number, landings: readonly Landing[]): Promise<void> {
    let offset = 0;
    let failure: Error | undefined;
    for (const { target, length, done } of landings) {
      if (target !== undefined && failure === undefined) {
        await ring.read(slot, offset, target).catch((error) => failure = asError(error));
      }
      offset += length;
      done(failure);
    }
    if (failure !== undefined) throw failure;
    this.#held.delete(slot);
    await this.#write([encodeFree(slot)]);
  }

  #land(wants: Wants, most: number): Landing {
    const landing = wants.land(most);
    if (landing !== undefined) return landing;
    throw new ProtocolError(`trainer ${this.name} sent bytes that nobody had asked for`);
  }

  /** Those of the open push; `undefined` for bytes of one that has ended. */
  #wantsOf(push: number): Wants | undefined {
    if (this.#push?.offer.id === push) return this.#push.wants;
    if (push >= 1 && push <= this.#lastPush) return undefined;
    throw new ProtocolError(
      `trainer ${this.name} sent bytes of push ${push}, which it never began`,
    );
  }

  #write(parts: readonly Uint8Array[]): Promise<void> {
    const written = this.#writing.then(async () => {
      this.#end.signal.throwIfAborted();
      for (const part of parts) await writeAll(this.#socket, part);
    });
    this.#writing = written.catch((error) => {
      if (this.#end.signal.aborted) return;
      this.#logger.debug(`Trainer link: ${asError(error).message}`);
      this.close(asError(error));
    });
    return written;
  }
}
