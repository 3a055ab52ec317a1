import type { RolloutBatch } from "../collector/batch.ts";
import { AbortedError, StateError } from "../errors.ts";
import { sleep, withDeadline } from "../internal/deadline.ts";
import { orAborted } from "../internal/or_aborted.ts";
import { asError } from "../internal/thrown.ts";
import { writeAll } from "../internal/write_all.ts";
import type { SGLangWeightSender, UpdateWeightsOptions, WeightSyncReport } from "../weights/mod.ts";
import { closeQuietly } from "../runtime/close_quietly.ts";
import { type LinkAddress, linkAddressText, parseLinkAddress } from "./address.ts";
import { Batches } from "./batches.ts";
import { TrainerConnection } from "./connection.ts";
import type { MemoryMapper } from "./device_maps.ts";
import { encodeMessage, FrameReader } from "./frames.ts";
import { greet, type TrainerName, type TrainerWay, type WayOffer } from "./greeting.ts";
import {
  checkLinkOptions,
  type TrainerCuda,
  type TrainerLinkOptions,
  type TrainerLinkSettings,
} from "./link_options.ts";
import { listenAt, removeQuietly } from "./listen.ts";
import { TrainerPush } from "./push.ts";
import type { PushOffer } from "./push_offer.ts";
import { openRing, type Ring } from "./ring.ts";
import { type AdapterOutcome, type AdapterReceiver, syncAdapter, syncPush } from "./sync.ts";

/** A trainer that is connected. */
export interface ConnectedTrainer {
  /** What it calls itself. */
  readonly name: string;
  /** How its weights travel. */
  readonly way: TrainerWay;
  /** Why they do not travel by a better way; empty where they do. */
  readonly why: string;
}

/**
 * The meeting place of this process, rank 0, with a trainer in another: PyTorch by
 * `sglang_rl.WeightLink`, any other by the protocol of `docs/trainer_protocol.md`. Weights come from
 * the trainer without a file between, rows go to it.
 *
 * Needs `--allow-net` for the address (`--allow-net=unix:/path`, with `--allow-read` and
 * `--allow-write` of the path); shared memory needs `--allow-ffi` for the C library.
 *
 * @example
 * ```ts ignore
 * import { TrainerLink } from "@sglang-rl/sglang-rl/trainer";
 *
 * await using link = await TrainerLink.listen("unix:/tmp/trainer.sock");
 * await link.sendBatch(batch); // for batch in link.batches(): …
 * const report = await link.syncNext(sender); // link.push(model, version=1)
 * ```
 */
export class TrainerLink implements AsyncDisposable {
  readonly #listener: Deno.Listener;
  readonly #address: LinkAddress;
  readonly #options: TrainerLinkSettings;
  readonly #id = crypto.randomUUID();
  readonly #closing = new AbortController();
  /** Everybody who has connected, also before the greeting. */
  readonly #work = new Set<Promise<void>>();
  readonly #trainers = new Set<TrainerConnection>();
  readonly #offers: TrainerPush[] = [];
  readonly #batches: Batches;
  #greeting = 0;
  #mapper: Promise<MemoryMapper> | undefined;
  #offered = Promise.withResolvers<void>();
  readonly #accepting: Promise<void>;

  private constructor(
    listener: Deno.Listener,
    address: LinkAddress,
    options: TrainerLinkSettings,
  ) {
    this.#listener = listener;
    this.#address = address;
    this.#options = options;
    this.#batches = new Batches(this.#trainers, options.maxBatchBytes);
    this.#accepting = this.#accept();
  }

  /**
   * Listens at `unix:/path` or `tcp:host:port`; port 0 takes a free one. A socket file that a
   * process left behind when it was killed is taken over.
   *
   * @throws {ValidationError} The address is none, or other hosts reach it and there is no key.
   * @throws {StateError} Somebody else listens there.
   * @throws {PermissionError} Deno refused to listen.
   */
  static async listen(address: string, options: TrainerLinkOptions = {}): Promise<TrainerLink> {
    const parsed = parseLinkAddress(address);
    const settings = checkLinkOptions(parsed, options);
    const listener = await listenAt(parsed);
    const { addr } = listener;
    const actual = addr.transport === "tcp" && parsed.kind === "tcp"
      ? { ...parsed, port: addr.port }
      : parsed;
    return new TrainerLink(listener, actual, settings);
  }

  /** Where it listens, as a trainer takes it. */
  get address(): string {
    return linkAddressText(this.#address);
  }

  /** Who is connected, and how their weights travel. */
  get trainers(): readonly ConnectedTrainer[] {
    return [...this.#trainers].map(({ name, way, why }) => ({ name, way, why }));
  }

  /**
   * The next weights that a trainer hands over; waits until there are any. Whoever takes a push
   * settles it, by {@linkcode TrainerPush.done} or {@linkcode TrainerPush.failed}: the trainer waits.
   */
  async nextPush(call: { readonly signal?: AbortSignal | undefined } = {}): Promise<TrainerPush> {
    const signal = this.#until(call.signal);
    for (;;) {
      this.#requireOpen();
      if (signal.aborted) throw new AbortedError("wait for a trainer", { cause: signal.reason });
      const push = this.#offers.shift();
      // One whose trainer is gone has nothing to give.
      if (push !== undefined && !push.gone.aborted) return push;
      if (push !== undefined) continue;
      try {
        await orAborted(this.#offered.promise, signal);
      } catch (error) {
        this.#requireOpen();
        throw new AbortedError("wait for a trainer", { cause: error });
      }
    }
  }

  /** All pushes, one after another, until the link is closed. */
  async *pushes(
    call: { readonly signal?: AbortSignal | undefined } = {},
  ): AsyncGenerator<TrainerPush, void> {
    while (!this.#closing.signal.aborted) {
      try {
        yield await this.nextPush(call);
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        throw error;
      }
    }
  }

  /**
   * Waits for the next push, brings its weights to the servers of `sender`, and tells the trainer
   * how that went. An adapter is refused: {@linkcode TrainerLink.serve} takes both.
   *
   * @throws What {@linkcode SGLangWeightSender.updateWeights} throws; the trainer has the same words.
   */
  async syncNext(
    sender: Pick<SGLangWeightSender, "updateWeights">,
    options: Omit<UpdateWeightsOptions, "version"> = {},
  ): Promise<WeightSyncReport> {
    const push = await this.nextPush(options);
    return await syncPush(push, sender, options);
  }

  /**
   * Syncs every push until the link is closed or the signal fires: weights by `sender`, adapters by
   * `adapters`, such as a `LoraSender`. A sync that fails is told to the trainer and to `onError`, and
   * the next one is waited for.
   */
  async serve<Report extends AdapterOutcome>(
    sender: Pick<SGLangWeightSender, "updateWeights">,
    options: {
      readonly adapters?: AdapterReceiver<Report> | undefined;
      readonly signal?: AbortSignal | undefined;
      readonly onSync?: ((report: WeightSyncReport) => void) | undefined;
      readonly onAdapter?: ((report: Report) => void) | undefined;
      readonly onError?: ((error: Error) => void) | undefined;
    } = {},
  ): Promise<void> {
    const { adapters, signal, onSync, onAdapter, onError } = options;
    try {
      for await (const push of this.pushes({ signal })) {
        try {
          if (push.kind === "adapter" && adapters !== undefined) {
            const report = await syncAdapter(push, adapters, { signal });
            onAdapter?.(report);
            continue;
          }
          const report = await syncPush(push, sender, { signal });
          onSync?.(report);
        } catch (error) {
          this.#options.logger.warn(`Trainer link: ${asError(error).message}`);
          onError?.(asError(error));
        }
      }
    } catch (error) {
      if (!signal?.aborted) throw error;
    }
  }

  /**
   * Sends rows to the trainer that asks for the next batch; resolves when it has them. A trainer that
   * goes away before it has all of them gets them again when it is back.
   */
  async sendBatch(
    batch: RolloutBatch,
    call: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<void> {
    this.#requireOpen();
    await this.#batches.send(batch, this.#until(call.signal));
  }

  /** Says goodbye to all trainers and stops listening. Safe to call twice. */
  async close(): Promise<void> {
    if (!this.#closing.signal.aborted) {
      const reason = new StateError("The trainer link was closed");
      this.#closing.abort(reason);
      this.#batches.close(reason);
      this.#listener.close();
      await Promise.all([...this.#trainers].map((trainer) => this.#farewell(trainer, reason)));
      if (this.#address.kind === "unix") await removeQuietly(this.#address.path);
    }
    await this.#accepting;
    await Promise.all(this.#work);
    const mapper = this.#mapper;
    this.#mapper = undefined;
    await (await mapper?.catch(() => undefined))?.[Symbol.asyncDispose]();
  }

  /** The same as {@linkcode TrainerLink.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #farewell(trainer: TrainerConnection, reason: Error): Promise<void> {
    const { clock } = this.#options;
    const wait = { phase: "say goodbye", timeoutMs: 1000, clock };
    await withDeadline(wait, () => trainer.send({ type: "bye" })).catch(() => {});
    trainer.close(reason);
  }

  #requireOpen(): void {
    if (this.#closing.signal.aborted) throw this.#closing.signal.reason;
  }

  #until(signal: AbortSignal | undefined): AbortSignal {
    return signal === undefined
      ? this.#closing.signal
      : AbortSignal.any([signal, this.#closing.signal]);
  }

  async #accept(): Promise<void> {
    while (!this.#closing.signal.aborted) {
      let socket: Deno.Conn;
      try {
        socket = await this.#listener.accept();
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        this.#options.logger.warn(`Trainer link: ${asError(error).message}`);
        // No descriptors left, for example: the next may be had when one is given back.
        await sleep(100, { clock: this.#options.clock });
        continue;
      }
      if (this.#trainers.size + this.#greeting >= this.#options.maxTrainers) {
        this.#options.logger.warn("Trainer link: too many trainers, one was turned away");
        socket.close();
        continue;
      }
      const work = this.#serve(socket).finally(() => this.#work.delete(work));
      this.#work.add(work);
    }
  }

  /** One trainer from its hello to its end. Never rejects. */
  async #serve(socket: Deno.Conn): Promise<void> {
    const { logger } = this.#options;
    let ring: Ring | undefined;
    let isOver = false;
    const reader = new FrameReader(socket, "the trainer");
    let trainer: TrainerConnection;
    this.#greeting++;
    try {
      const known = await this.#greet(socket, reader, (opened) => {
        ring = opened;
        if (isOver) opened.close();
      });
      if (known.way !== "shm") {
        await ring?.close();
        ring = undefined;
      }
      const { clock } = this.#options;
      const events = {
        push: (connection: TrainerConnection, offer: PushOffer) => this.#offer(connection, offer),
        take: () => this.#batches.wake(),
      };
      trainer = new TrainerConnection(socket, reader, { ...known, ring, clock, logger, events });
    } catch (error) {
      logger.warn(`Trainer link: somebody was turned away: ${asError(error).message}`);
      closeQuietly(socket);
      await ring?.close();
      return;
    } finally {
      isOver = true;
      this.#greeting--;
    }
    const by = trainer.why === "" ? trainer.way : `${trainer.way} (${trainer.why})`;
    logger.info(`Trainer ${trainer.name} is connected; its weights travel by ${by}`);
    this.#trainers.add(trainer);
    if (this.#closing.signal.aborted) trainer.close(this.#closing.signal.reason);
    await trainer.run();
    this.#trainers.delete(trainer);
    this.#batches.wake();
    logger.info(`Trainer ${trainer.name} is gone: ${asError(trainer.ended.reason).message}`);
  }

  async #greet(socket: Deno.Conn, reader: FrameReader, onRing: (ring: Ring) => void) {
    const { greetingMs: timeoutMs, key, clock } = this.#options;
    const signal = this.#closing.signal;
    const send = async (message: object) => await writeAll(socket, encodeMessage(message));
    const offerTo = async (trainer: TrainerName): Promise<WayOffer> => {
      const offer = await this.#offerTo(trainer);
      if (offer.opened !== undefined) onRing(offer.opened);
      return offer.told;
    };
    const wait = { phase: "greet a trainer", timeoutMs, signal, clock };
    return await withDeadline(wait, () => greet(reader, send, { key, offerTo }));
  }

  async #offerTo(
    trainer: TrainerName,
  ): Promise<{ readonly told: WayOffer; readonly opened: Ring | undefined }> {
    const { ways, ringBytes, cuda } = this.#options;
    const link = this.#id;
    const wanted = ways.filter((way) =>
      trainer.ways.includes(way) && (way !== "cuda-ipc" || cuda !== undefined)
    );
    if (!wanted.includes("shm")) {
      const why = ways.includes("shm") ? {} : { shm: "the link does not allow it" };
      return { told: { link, ways: wanted, without: why }, opened: undefined };
    }
    const opened = await openRing(ringBytes);
    if (typeof opened !== "string") {
      return { told: { link, ways: wanted, ring: opened.offer, without: {} }, opened: opened.ring };
    }
    const left = wanted.filter((way) => way !== "shm");
    return { told: { link, ways: left, without: { shm: opened } }, opened: undefined };
  }

  /** Opened at the first push of device memory. One that failed is tried again. */
  async #openMapper(): Promise<MemoryMapper> {
    const { cuda = {} } = this.#options;
    const opening = this.#mapper ??= (cuda.openMapper ?? (() => openImporter(cuda)))();
    try {
      return await opening;
    } catch (error) {
      this.#mapper = undefined;
      throw error;
    }
  }

  #offer(connection: TrainerConnection, offer: PushOffer): void {
    this.#offers.push(new TrainerPush(connection, offer, () => this.#openMapper()));
    this.#offered.resolve();
    this.#offered = Promise.withResolvers();
  }
}

async function openImporter({ device, libraries }: TrainerCuda): Promise<MemoryMapper> {
  const { DeviceImporter } = await import("../../ffi/ipc/importer.ts");
  return await DeviceImporter.open({ device, ...(libraries && { libraries }) });
}
