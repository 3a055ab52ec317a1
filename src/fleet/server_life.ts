import { withDeadline } from "../internal/deadline.ts";
import type { Clock } from "../internal/clock.ts";
import type { Logger } from "../internal/logger.ts";
import { messageOf } from "../internal/thrown.ts";
import type { FleetEvent } from "./events.ts";
import { dueReason, type FleetRules } from "./machine.ts";
import type {
  FleetSupervisorOptions,
  FleetWorker,
  StartableServer,
  SupervisedFleet,
} from "./options.ts";
import type { Supervised } from "./supervised.ts";
import type { ServerInput } from "./transitions.ts";

/** What a life tells its supervisor, and asks it. */
export interface LifeHooks {
  /** Something happened: the next state by the table. */
  readonly feed: (member: Supervised, input: ServerInput, reason?: string) => void;
  /** Something is to be told. */
  readonly emit: (member: Supervised, event: Pick<FleetEvent, "kind" | "from" | "reason">) => void;
  /** Listens for the end of a process. */
  readonly watchExit: (member: Supervised, server: StartableServer) => void;
  /** Whether the server is still watched. */
  readonly isWatched: (member: Supervised) => boolean;
  /** Whether the supervision has ended. */
  readonly isClosed: () => boolean;
}

/**
 * What is done for a server in each state: it is probed, withdrawn, started again, refitted. Which
 * state it is in says the table (`transitions.ts`).
 */
export class ServerLife {
  readonly #fleet: SupervisedFleet;
  readonly #options: FleetSupervisorOptions;
  readonly #rules: FleetRules;
  readonly #probeMs: number;
  readonly #probeTimeoutMs: number;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #hooks: LifeHooks;

  constructor(
    fleet: SupervisedFleet,
    options: FleetSupervisorOptions & {
      readonly rules: FleetRules;
      readonly probeMs: number;
      readonly probeTimeoutMs: number;
      readonly clock: Clock;
      readonly logger: Logger;
      readonly hooks: LifeHooks;
    },
  ) {
    this.#fleet = fleet;
    this.#options = options;
    this.#rules = options.rules;
    this.#probeMs = options.probeMs;
    this.#probeTimeoutMs = options.probeTimeoutMs;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#hooks = options.hooks;
  }

  /** The life of one server: one thing after the other, so that nothing overlaps. */
  async run(member: Supervised): Promise<void> {
    while (!this.#hooks.isClosed() && this.#hooks.isWatched(member)) {
      try {
        await this.#turn(member);
      } catch (error) {
        // Work that lost its sense ends so; all else is reported and tried again after a pause.
        if (this.#hooks.isClosed() || !this.#hooks.isWatched(member)) return;
        this.#logger.error(`${member.url}: ${messageOf(error)}`);
        await member.pause(this.#probeMs, this.#clock);
      }
    }
  }

  async #turn(member: Supervised): Promise<void> {
    const { signal } = member;
    if (member.withdrawal !== undefined) {
      const { drainMs } = member;
      member.withdrawal = undefined;
      member.drainMs = 0;
      await this.withdraw(member, drainMs);
      if (signal.aborted) return;
    }
    const { state, dueAt, isOurs } = member.record;
    if (state === "restarting") return await this.#launch(member, signal);
    if (state === "retired") return await member.woken();
    if (state === "dead" && isOurs) {
      const pauseMs = (dueAt ?? 0) - this.#clock.now();
      if (pauseMs > 0) await member.pause(pauseMs, this.#clock);
      if (signal.aborted || this.#clock.now() < (dueAt ?? 0)) return;
      this.#hooks.feed(member, "due", dueReason(member.record, this.#rules, member.reason));
      return;
    }
    await this.#probe(member, signal);
    if (member.record.state === "stale" && !member.isDrained) await this.#refit(member);
    if (signal.aborted) return;
    await member.pause(this.#probeMs, this.#clock);
  }

  async #probe(member: Supervised, signal: AbortSignal): Promise<void> {
    try {
      const { weightVersion } = await withDeadline({
        phase: "probe",
        timeoutMs: this.#probeTimeoutMs,
        peer: member.url,
        signal,
        clock: this.#clock,
      }, (inner) => this.#ask(member, inner));
      member.weightVersion = weightVersion;
    } catch (error) {
      if (!signal.aborted) this.#hooks.feed(member, "missed", messageOf(error));
      return;
    }
    if (!signal.aborted) this.#hooks.feed(member, "answered");
  }

  #ask(member: Supervised, signal: AbortSignal): Promise<{ weightVersion: string | null }> {
    const { probe } = this.#options;
    if (probe !== undefined) return probe(member.url, signal);
    // The deadline is that of the probe, by the supervisor's clock.
    return member.client.modelInfo({ signal, timeoutMs: 3_600_000 });
  }

  async #launch(member: Supervised, signal: AbortSignal): Promise<void> {
    try {
      const server = await member.server!.restart({ signal });
      member.server = server;
      this.#hooks.watchExit(member, server);
    } catch (error) {
      if (!signal.aborted) this.#hooks.feed(member, "not launched", messageOf(error));
      return;
    }
    this.#hooks.feed(member, "launched");
  }

  /** Lets the fleet bring its weights; whether it serves then is what the fleet says. */
  async #refit(member: Supervised): Promise<void> {
    const { signal, url } = member;
    try {
      const worker = await this.#bring(member, signal);
      if (signal.aborted) return;
      member.refitFailures = 0;
      if (worker.state === "serving") return this.#hooks.feed(member, "fitted", worker.reason);
      if (member.isToldToWait) return;
      member.isToldToWait = true;
      const reason = `it waits for the next sync: ${worker.reason}`;
      this.#hooks.emit(member, { kind: "waits", from: "stale", reason });
    } catch (error) {
      if (signal.aborted) return;
      this.#hooks.emit(member, { kind: "refit_failed", from: "stale", reason: messageOf(error) });
      const { backoffMs, maxBackoffMs } = this.#rules;
      const delayMs = Math.min(maxBackoffMs, backoffMs * 2 ** member.refitFailures++);
      await member.pause(delayMs, this.#clock);
    } finally {
      if (this.worker(url) !== undefined) member.isWithdrawn = false;
    }
  }

  async #bring({ url }: Supervised, signal: AbortSignal): Promise<FleetWorker> {
    const known = this.worker(url);
    if (known?.state === "quarantined") await this.#fleet.refreshWorkers({ signal });
    const worker = known?.state === "serving"
      ? known
      : await this.#fleet.addWorker(url, { signal });
    if (worker.state === "serving" || this.#options.refit === undefined) return worker;
    if (!await this.#options.refit(url, { signal })) return worker;
    await this.#fleet.refreshWorkers({ signal });
    return this.worker(url) ?? worker;
  }

  /** What the fleet says of a server. */
  worker(url: string): FleetWorker | undefined {
    return this.#fleet.workers.find((worker) => worker.url === url);
  }

  /** Lets the fleet send nothing to a server any more. */
  async withdraw(member: Supervised, drainMs: number): Promise<void> {
    const { workers } = this.#fleet;
    if (!workers.some(({ url }) => url === member.url)) return;
    member.isWithdrawn = true;
    // Syncs go to all servers of the fleet: one that cannot answer must not be among them.
    const mayStay = member.record.state === "stale" && !member.isDrained;
    try {
      if (!mayStay) return await this.#fleet.removeWorker(member.url, { drainMs });
    } catch (error) {
      this.#logger.debug(`${member.url} stays in the list: ${messageOf(error)}`);
    }
    await this.#fleet.quarantineWorker(member.url, member.reason);
  }
}
