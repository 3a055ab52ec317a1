import { AbortedError } from "../../errors.ts";
import type { Clock } from "../../internal/clock.ts";
import { leftBehind, unwrapFailure } from "../fleet/on_all.ts";
import type { FleetServer } from "../fleet/server.ts";
import type { TransportServer, TransportUpdate, UpdateQueue } from "../transport/transport.ts";
import { isGone } from "./failure.ts";

/** A server that a sync went on without, and where and why. */
export interface Lost {
  readonly server: FleetServer;
  readonly phase: string;
  readonly error: unknown;
}

/** What is sent to whom. */
export interface LaneOptions {
  readonly servers: readonly FleetServer[];
  readonly updates: readonly TransportUpdate[];
  /** Longest time of one update of one server. */
  readonly timeoutMs: number;
  /** Longest time of it while another server waits for this one. */
  readonly stragglerMs: number;
  readonly clock: Clock;
  /** Runs an update of a server; rejects when we may not write to it. */
  readonly write: (
    server: FleetServer,
    phase: string,
    update: () => Promise<void>,
  ) => Promise<void>;
  /** Whether a failure of one server ends the sync on all of them. */
  readonly isFatal: (error: unknown) => boolean;
  /** The caller's cancellation. */
  readonly signal: AbortSignal | undefined;
  /** Runs what waits for all servers to have taken an update. */
  readonly step: (update: TransportUpdate, work: () => Promise<void>) => Promise<void>;
}

/** A server this many times slower than the slowest of those that wait for it is left behind. */
const SLOWER_TIMES = 4;

/** One server's way through the updates. */
class Lane {
  readonly server: FleetServer;
  readonly stop = new AbortController();
  /** Updates that it has taken. */
  taken = 0;
  /** When the server was told of the update under way, if it was. */
  since: number | undefined;
  slowestMs = 0;
  lost: Lost | undefined;

  constructor(server: FleetServer) {
    this.server = server;
  }
}

/**
 * Sends every update to every server, each server at its own pace, and goes on without those that
 * fail. One that others wait for is left behind after a while: they are paused meanwhile.
 *
 * @returns those that failed; `cleaned` resolves when what they were in is cleaned up
 * @throws {Error} What failed first, when all failed or the caller cancelled; everything is cleaned up then.
 */
export async function sendInLanes(
  options: LaneOptions,
): Promise<{ readonly lost: readonly Lost[]; readonly cleaned: Promise<unknown> }> {
  const lanes = new Lanes(options);
  const cleaned = lanes.start();
  try {
    for (const [i, update] of options.updates.entries()) {
      await options.step(update, () => lanes.passed(i));
    }
    const { lost } = lanes;
    const fatal = lost.find(({ error }) => options.isFatal(error) || options.signal?.aborted);
    if (fatal !== undefined) throw fatal.error;
    return { lost, cleaned };
  } catch (error) {
    await cleaned;
    throw error;
  } finally {
    lanes.end();
  }
}

class Lanes {
  readonly #options: LaneOptions;
  readonly #lanes: readonly Lane[];
  readonly #waiting: { index: number; wait: PromiseWithResolvers<void> }[] = [];
  readonly #lost: Lost[] = [];
  #cancelWatch = () => {};

  constructor(options: LaneOptions) {
    this.#options = options;
    this.#lanes = options.servers.map((server) => new Lane(server));
  }

  get lost(): readonly Lost[] {
    return this.#lost;
  }

  start(): Promise<unknown> {
    return Promise.all(this.#lanes.map((lane) => this.#drive(lane)));
  }

  end(): void {
    this.#cancelWatch();
  }

  /** Resolves when every server that is not lost has taken the update. */
  passed(index: number): Promise<void> {
    const wait = Promise.withResolvers<void>();
    this.#waiting.push({ index, wait });
    this.#look();
    return wait.promise;
  }

  async #drive(lane: Lane): Promise<void> {
    const { updates, signal } = this.#options;
    const either = signal === undefined
      ? lane.stop.signal
      : AbortSignal.any([signal, lane.stop.signal]);
    const underWay: Promise<void>[] = [];
    const failed = Promise.withResolvers<never>();
    failed.promise.catch(() => {});
    try {
      let turn = Promise.resolve();
      for (const i of updates.keys()) {
        const [asked, answered] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
        const queue = { turn, asked: asked.resolve, answered: answered.resolve };
        const sent = this.#send(lane, i, { signal: either, queue });
        sent.catch(failed.reject);
        underWay.push(sent);
        turn = Promise.race([sent, answered.promise]);
        turn.catch(() => {});
        // The next gets ready on our side, and its server is told once it has answered this one.
        await Promise.race([sent, asked.promise, failed.promise]);
      }
      await Promise.all(underWay);
    } catch (error) {
      // What else is on its way to this server has nobody to wait for it.
      lane.stop.abort(error);
      const outcomes = await Promise.allSettled(underWay);
      const at = causeAmong(outcomes);
      const outcome = outcomes[at];
      this.#lose(
        lane,
        updates[Math.max(0, at)]!.message,
        outcome?.status === "rejected" ? outcome.reason : error,
      );
    }
  }

  async #send(
    lane: Lane,
    index: number,
    call: { readonly signal: AbortSignal; readonly queue: UpdateQueue },
  ): Promise<void> {
    const { updates, timeoutMs } = this.#options;
    const update = updates[index]!;
    const place = { isFirst: index === 0, isLast: index === updates.length - 1 };
    await update.send({
      ...call,
      phase: update.message,
      timeoutMs,
      servers: [lane.server],
      whileUpdating: (_server: TransportServer, work) =>
        this.#timed(
          lane,
          () =>
            this.#options.write(
              lane.server,
              update.message,
              () => lane.server.whileUpdating(place, work),
            ),
        ),
    });
    lane.taken = index + 1;
    this.#look();
  }

  async #timed(lane: Lane, call: () => Promise<void>): Promise<void> {
    const from = lane.since = this.#options.clock.now();
    this.#watch();
    try {
      await call();
      lane.slowestMs = Math.max(lane.slowestMs, this.#options.clock.now() - from);
    } finally {
      lane.since = undefined;
      this.#watch();
    }
  }

  #lose(lane: Lane, phase: string, error: unknown): void {
    if (lane.lost !== undefined) return;
    lane.lost = { server: lane.server, phase, error };
    this.#lost.push(lane.lost);
    if (this.#options.isFatal(error)) {
      for (const other of this.#lanes) other.stop.abort(error);
    }
    this.#look();
  }

  /** Tells whoever waits for the servers to come this far. */
  #look(): void {
    const left = this.#lanes.filter(({ lost }) => lost === undefined);
    const behind = Math.min(...left.map(({ taken }) => taken));
    for (const { index, wait } of this.#waiting) {
      if (left.length === 0) wait.reject(this.#lost[0]!.error);
      else if (behind > index) wait.resolve();
    }
    this.#watch();
  }

  /** Leaves servers behind that take long while others have nothing to do but wait for them. */
  #watch(): void {
    this.#cancelWatch();
    const left = this.#lanes.filter(({ lost }) => lost === undefined);
    const busy = left.filter(({ since }) => since !== undefined);
    const idle = left.filter(({ since }) => since === undefined);
    if (busy.length === 0 || idle.length === 0) return;
    const slowestMs = Math.max(...idle.map((lane) => lane.slowestMs));
    const limitMs = Math.max(this.#options.stragglerMs, SLOWER_TIMES * slowestMs);
    if (limitMs >= this.#options.timeoutMs) return;
    const oldest = Math.min(...busy.map(({ since }) => since!));
    const restMs = Math.max(0, oldest + limitMs - this.#options.clock.now());
    this.#cancelWatch = this.#options.clock.schedule(restMs, () => {
      for (const lane of busy) {
        if (lane.since === undefined || this.#options.clock.now() - lane.since < limitMs) continue;
        const phase = this.#options.updates[lane.taken]!.message;
        const error = leftBehind(phase, limitMs, lane.server.url);
        this.#lose(lane, phase, error);
        lane.stop.abort(error);
      }
      this.#watch();
    });
  }
}

/**
 * Which of several updates under way failed by itself, as an index: the others were cut off because
 * of it. A server that is gone says most.
 */
function causeAmong(outcomes: readonly PromiseSettledResult<void>[]): number {
  const errors = outcomes.map((one) => one.status === "rejected" ? one.reason : undefined);
  const gone = errors.findIndex((error) => error !== undefined && isGone(error));
  if (gone >= 0) return gone;
  const own = errors.findIndex((error) =>
    error !== undefined && !(unwrapFailure(error).cause instanceof AbortedError)
  );
  return own >= 0 ? own : errors.findIndex((error) => error !== undefined);
}
