import { StateError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import { withDeadline } from "../internal/deadline.ts";
import type { Logger } from "../internal/logger.ts";
import { messageOf } from "../internal/thrown.ts";
import type { FleetEvent } from "./events.ts";
import { dueReason, type FleetRules, newRecord, type ServerRecord, step } from "./machine.ts";
import type { StartableRouter } from "./options.ts";
import { PresentWork } from "./present_work.ts";
import type { SupervisedServer } from "./supervised.ts";
import { inputMeanings, type ServerInput } from "./transitions.ts";

/** What the supervision of a router works with. */
export interface RouterSupervision {
  readonly rules: FleetRules;
  readonly probeMs: number;
  readonly probeTimeoutMs: number;
  readonly emit: (event: FleetEvent) => void;
  readonly logger: Logger;
  readonly clock: Clock;
}

/**
 * Keeps the router of a fleet alive, by the table of the servers. It holds no weights, so that it is
 * healthy as soon as its new process has the servers that serve.
 */
export class RouterSupervisor {
  readonly #router: StartableRouter;
  readonly #options: RouterSupervision;
  readonly #closing = new AbortController();
  readonly #work = new PresentWork();
  readonly #loop: Promise<void>;
  #record: ServerRecord;
  #reason = "it is watched from now on";

  /** Begins to watch a router that runs. */
  constructor(router: StartableRouter, options: RouterSupervision) {
    this.#router = router;
    this.#options = options;
    this.#record = newRecord({ state: "healthy", isOurs: true, now: options.clock.now() });
    this.#watchExit();
    this.#loop = this.#run();
  }

  /** Where it stands. */
  get told(): SupervisedServer {
    const { state, restarts, missed, failed } = this.#record;
    const { url } = this.#router;
    const reason = this.#reason;
    return { url, state, reason, restarts, missed, failed, isDrained: false, weightVersion: null };
  }

  /** Starts it again, whatever its state and its budget. */
  order(): void {
    this.#feed("ordered");
  }

  /** Watches it no more. */
  async close(): Promise<void> {
    this.#closing.abort(new StateError("The supervisor was closed"));
    this.#work.interrupt(this.#closing.signal.reason);
    await this.#loop;
  }

  #watchExit(): void {
    this.#router.exited.then(({ requested, exitCode, signal }) => {
      if (requested) return;
      this.#feed("exited", `its process ended with ${signal ?? `exit code ${exitCode}`}`);
    });
  }

  async #run(): Promise<void> {
    while (!this.#closing.signal.aborted) {
      const { signal } = this.#work;
      const { state, dueAt } = this.#record;
      const { clock, probeMs } = this.#options;
      if (state === "restarting") await this.#launch(signal);
      else if (state === "retired") await this.#work.woken();
      else if (state === "dead") {
        const pauseMs = (dueAt ?? 0) - clock.now();
        if (pauseMs > 0) await this.#work.pause(pauseMs, clock);
        if (signal.aborted || clock.now() < (dueAt ?? 0)) continue;
        this.#feed("due", dueReason(this.#record, this.#options.rules, this.#reason));
      } else {
        await this.#probe(signal);
        if (!signal.aborted) await this.#work.pause(probeMs, clock);
      }
    }
  }

  async #probe(signal: AbortSignal): Promise<void> {
    const { probeTimeoutMs: timeoutMs, clock } = this.#options;
    const peer = this.#router.url;
    try {
      await withDeadline(
        { phase: "probe", timeoutMs, peer, signal, clock },
        (inner) => this.#router.probe({ signal: inner }),
      );
    } catch (error) {
      if (!signal.aborted) this.#feed("missed", messageOf(error));
      return;
    }
    if (!signal.aborted) this.#feed("answered");
  }

  async #launch(signal: AbortSignal): Promise<void> {
    try {
      await this.#router.restart({ signal });
    } catch (error) {
      if (!signal.aborted) this.#feed("not launched", messageOf(error));
      return;
    }
    if (signal.aborted) return;
    this.#watchExit();
    this.#feed("launched");
  }

  #feed(input: ServerInput, reason = inputMeanings[input]): void {
    if (this.#closing.signal.aborted) return;
    const { rules, clock } = this.#options;
    const now = clock.now();
    const before = this.#record;
    const context = { rules, now, othersHealthy: 0 };
    this.#record = step(before, input, context).record;
    // There are no weights to bring.
    if (this.#record.state === "stale") this.#record = step(this.#record, "fitted", context).record;
    if (this.#record.state === before.state) return;
    this.#reason = reason;
    this.#tell(before.state);
    this.#work.interrupt(new StateError(`it is ${this.#record.state} now`));
  }

  #tell(from: FleetEvent["from"]): void {
    const { url } = this.#router;
    const to = this.#record.state;
    const reason = this.#reason;
    this.#options.logger[to === "healthy" ? "info" : "warn"](`Router ${url} is ${to}: ${reason}`);
    this.#options.emit({ at: Date.now(), url, kind: "state", from, to, reason });
  }
}
