import { StateError } from "../errors.ts";
import { canonicalUrl } from "../internal/canonical_url.ts";
import { type Clock, systemClock } from "../internal/clock.ts";
import { type Logger, silentLogger } from "../internal/logger.ts";
import { messageOf } from "../internal/thrown.ts";
import type { ServerDiscovery } from "./discovery/discovery.ts";
import { type FleetEvent, FleetEvents } from "./events.ts";
import { type FleetRules, newRecord, step } from "./machine.ts";
import {
  type FleetSupervisorOptions,
  rulesOf,
  type StartableServer,
  type SupervisedFleet,
} from "./options.ts";
import { RouterSupervisor } from "./router_supervisor.ts";
import { ServerLife } from "./server_life.ts";
import { Supervised, type SupervisedServer } from "./supervised.ts";
import { inputMeanings, type ServerInput } from "./transitions.ts";

/**
 * Keeps a fleet of servers whole: probes them, takes out who is dead, starts again who is ours to
 * start, and lets nobody serve before it holds the fleet's weights. What leads from which state to
 * which is the table of `docs/servers.md`.
 *
 * Needs `--allow-net` of the servers; starting them again what starting them took.
 *
 * @example
 * ```ts
 * import { AsyncSGLang } from "@sglang-rl/sglang-rl";
 * import { FleetSupervisor } from "@sglang-rl/sglang-rl/fleet";
 *
 * await using engine = await AsyncSGLang.connect(["http://gpu-1:30000", "http://gpu-2:30000"]);
 * await using fleet = FleetSupervisor.start(engine, {
 *   onEvent: ({ url, to, reason }) => console.log(`${url} is ${to}: ${reason}`),
 * });
 * console.log(fleet.servers);
 * ```
 */
export class FleetSupervisor implements AsyncDisposable {
  readonly #fleet: SupervisedFleet;
  readonly #options: FleetSupervisorOptions;
  readonly #rules: FleetRules;
  readonly #life: ServerLife;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #members = new Map<string, Supervised>();
  readonly #events = new FleetEvents();
  readonly #closing = new AbortController();
  readonly #loops = new Set<Promise<void>>();
  readonly #listening: Disposable;
  readonly #router: RouterSupervisor | undefined;
  #isBelowMinimum = false;

  private constructor(fleet: SupervisedFleet, options: FleetSupervisorOptions) {
    this.#rules = rulesOf(options);
    this.#fleet = fleet;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger ?? silentLogger;
    this.#life = new ServerLife(fleet, {
      ...options,
      rules: this.#rules,
      probeMs: this.#probeMs,
      probeTimeoutMs: this.#probeTimeoutMs,
      clock: this.#clock,
      logger: this.#logger,
      hooks: {
        feed: (member, input, reason) => this.#feed(member, input, reason),
        emit: (member, event) => this.#emit(member, event),
        watchExit: (member, server) => this.#watchExit(member, server),
        isWatched: (member) => this.#members.get(member.url) === member,
        isClosed: () => this.#closing.signal.aborted,
      },
    });
    const ours = new Map(options.servers?.map((server) => [server.url, server]));
    for (const { url, state } of fleet.workers) {
      this.#add(url, state === "serving" ? "healthy" : "stale", ours.get(url));
    }
    this.#listening = fleet.onWorkerEvent((event) => this.#onWorkerEvent(event));
    const { discovery, router } = options;
    this.#router = router && new RouterSupervisor(router, {
      rules: this.#rules,
      probeMs: this.#probeMs,
      probeTimeoutMs: this.#probeTimeoutMs,
      emit: (event) => this.#publish(event),
      logger: this.#logger,
      clock: this.#clock,
    });
    if (discovery === undefined) return;
    const following = this.follow(discovery).catch((error) =>
      this.#logger.error(`${discovery.name} is followed no more: ${messageOf(error)}`)
    ).finally(() => this.#loops.delete(following));
    this.#loops.add(following);
  }

  /**
   * Begins to watch a fleet, such as an `AsyncSGLang`.
   *
   * @throws {ValidationError} An option is wrong.
   */
  static start(fleet: SupervisedFleet, options: FleetSupervisorOptions = {}): FleetSupervisor {
    return new FleetSupervisor(fleet, options);
  }

  /** Every server and where it stands. */
  get servers(): readonly SupervisedServer[] {
    return [...this.#members.values()].map((member) => member.told);
  }

  /** The router and where it stands; `undefined` when none is supervised. */
  get router(): SupervisedServer | undefined {
    return this.#router?.told;
  }

  /**
   * Events from now on; the loop ends with the supervision or when the signal fires. A reader that
   * is more than 1,000 events behind loses the oldest.
   */
  events(options: { readonly signal?: AbortSignal | undefined } = {}): AsyncIterableIterator<
    FleetEvent
  > {
    return this.#events.read(options.signal);
  }

  /**
   * How a request of ours went on a server; counted apart from the probes. `failed` is for a broken
   * connection or an error of the server, not for a request that it rightly refused.
   */
  report(url: string, outcome: "served" | "failed"): void {
    const member = this.#members.get(url);
    // Most requests go well on servers that are well: nothing to count.
    if (member === undefined || (outcome === "served" && member.record.failed === 0)) return;
    this.#feed(member, outcome);
  }

  /** Watches one more server; it is taken into the fleet as soon as it answers. */
  add(url: string, server?: StartableServer): void {
    this.#requireOpen();
    const key = canonicalUrl(url);
    if (!this.#members.has(key)) this.#add(key, "starting", server);
  }

  /** Watches a server no more and lets the fleet forget it; the server itself goes on. */
  async remove(url: string): Promise<void> {
    const member = this.#find(url);
    this.#members.delete(member.url);
    member.interrupt(new StateError("it was removed"));
    await this.#life.withdraw(member, this.#options.drainMs ?? 30_000).catch((error) =>
      this.#logger.warn(`${url} could not be taken out: ${messageOf(error)}`)
    );
    member.client.close();
  }

  /**
   * Follows a discovery until the supervision ends or the signal fires: servers that it finds are
   * watched and taken in, those that it has no more are let go. A look that fails changes nothing,
   * and neither does one that finds nobody: a fleet is not given up for an empty list.
   */
  async follow(
    discovery: ServerDiscovery,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<void> {
    const signal = options.signal === undefined
      ? this.#closing.signal
      : AbortSignal.any([this.#closing.signal, options.signal]);
    const onError = (error: unknown) =>
      this.#logger.warn(`${discovery.name} cannot be read: ${messageOf(error)}`);
    for await (const urls of discovery.watch({ signal, onError })) {
      if (signal.aborted) return;
      if (urls.length === 0) {
        this.#logger.warn(`${discovery.name} has no server; the fleet is left as it is`);
        continue;
      }
      const known = new Set(urls);
      for (const url of urls) if (!this.#members.has(url)) this.add(url);
      const gone = [...this.#members.keys()].filter((url) => !known.has(url));
      await Promise.all(gone.map((url) => this.remove(url)));
    }
  }

  /**
   * Starts a server again: its requests may end first, then it is ended, started, refitted and let in
   * again. Resolves when it serves. One that is drained stays so: it is started, and waits for
   * {@linkcode FleetSupervisor.undrain}. The router is started again by its address too, at once; requests
   * of the engine go past it meanwhile.
   *
   * @throws {StateError} It is not ours to start, or it is the only one that is healthy and `force`
   * is not given.
   * @throws {CrashedError} It did not come up.
   */
  async restart(
    url: string,
    options: { readonly force?: boolean; readonly signal?: AbortSignal } = {},
  ): Promise<void> {
    if (this.#router?.told.url === canonicalUrl(url)) {
      return await this.#untilHealthy(this.#router.told.url, options, () => this.#router!.order());
    }
    const member = this.#find(url);
    if (!member.record.isOurs) {
      throw new StateError(
        `${member.url} was not started here: start it again where it was started`,
      );
    }
    const isNeeded = member.isServing && this.#othersHealthy(member) < this.#rules.minHealthy;
    if (isNeeded && options.force !== true) {
      throw new StateError(
        `${member.url} is needed: without it fewer than ${this.#rules.minHealthy} server(s) are ` +
          "healthy. Wait for the others, or give `force`",
      );
    }
    member.drainMs = this.#options.drainMs ?? 30_000;
    await this.#untilHealthy(member.url, options, () => this.#feed(member, "ordered"));
  }

  /**
   * Lets a server get no more requests and waits for those that run, for maintenance. It is watched
   * on, and comes back by {@linkcode FleetSupervisor.undrain}.
   *
   * @throws {StateError} It is the last one that serves.
   */
  async drain(url: string): Promise<void> {
    const member = this.#find(url);
    if (member.isServing && this.#othersHealthy(member) === 0) {
      throw new StateError(`${member.url} is the last server that serves`);
    }
    member.isDrained = true;
    this.#feed(member, "strange", "it is drained");
    member.withdrawal = undefined;
    await this.#life.withdraw(member, this.#options.drainMs ?? 30_000);
  }

  /** Lets a drained server come back: it is refitted and gets requests again. */
  undrain(url: string): void {
    const member = this.#find(url);
    member.isDrained = false;
    member.wake();
  }

  /** Gives a server up: it is left alone until {@linkcode FleetSupervisor.restart}. */
  retire(url: string, reason = inputMeanings.retire): void {
    this.#feed(this.#find(url), "retire", reason);
  }

  /** Ends the supervision; the servers stay as they are. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#listening[Symbol.dispose]();
    this.#closing.abort(new StateError("The supervisor was closed"));
    for (const member of this.#members.values()) {
      member.interrupt(this.#closing.signal.reason);
    }
    await Promise.all([...this.#loops, this.#router?.close()]);
    for (const member of this.#members.values()) member.client.close();
    this.#events.close();
  }

  /** The same as {@linkcode FleetSupervisor.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #untilHealthy(
    url: string,
    options: { readonly signal?: AbortSignal },
    order: () => void,
  ): Promise<void> {
    const events = this.events(options);
    order();
    for await (const event of events) {
      if (event.url !== url || event.kind !== "state") continue;
      if (event.to === "healthy") return;
      // It answers, and is let in when it is drained no more.
      if (event.to === "stale" && this.#members.get(url)?.isDrained) return;
      if (event.to === "dead" || event.to === "retired") {
        throw new StateError(`${url} did not come back: ${event.reason}`);
      }
    }
    throw new StateError(`The restart of ${url} was not waited for to its end`);
  }

  get #probeMs(): number {
    return this.#options.probeMs ?? 2_000;
  }

  get #probeTimeoutMs(): number {
    return this.#options.probeTimeoutMs ?? 5_000;
  }

  #add(
    url: string,
    state: "starting" | "healthy" | "stale",
    server: StartableServer | undefined,
  ): Supervised {
    const record = newRecord({ state, isOurs: server !== undefined, now: this.#clock.now() });
    const { apiKey, headers, proxy, caCerts } = this.#options;
    const member = new Supervised(url, record, { apiKey, headers, proxy, caCerts, server });
    this.#members.set(url, member);
    if (server !== undefined) this.#watchExit(member, server);
    this.#emit(member, { kind: "state", from: null, reason: "it is watched from now on" });
    const loop = this.#life.run(member).finally(() => this.#loops.delete(loop));
    this.#loops.add(loop);
    return member;
  }

  #find(url: string): Supervised {
    this.#requireOpen();
    const member = this.#members.get(canonicalUrl(url));
    if (member !== undefined) return member;
    const known = [...this.#members.keys()].join(", ");
    throw new StateError(`${url} is not supervised; these are: ${known}`);
  }

  #requireOpen(): void {
    if (this.#closing.signal.aborted) throw this.#closing.signal.reason;
  }

  /** What the fleet itself found out about a server. */
  #onWorkerEvent({ url, to, reason }: { url: string; to: string; reason: string }): void {
    const member = this.#members.get(url);
    if (member === undefined) {
      if (to === "joining") this.#add(url, "starting", undefined);
      return;
    }
    if (to === "quarantined" && !member.isWithdrawn) this.#feed(member, "strange", reason);
    if (to === "serving") {
      member.isWithdrawn = false;
      // Newer than the last probe: the refit was after it.
      member.weightVersion = this.#life.worker(url)?.weightVersion ?? member.weightVersion;
      if (!member.isDrained) this.#feed(member, "fitted", reason);
    }
    if (to !== "gone" || member.isWithdrawn) return;
    // Somebody else let it go: it is no business of ours any more.
    this.#members.delete(url);
    member.interrupt(new StateError("it was removed"));
    member.client.close();
  }

  #watchExit(member: Supervised, server: StartableServer): void {
    server.exited.then(({ requested, exitCode, signal }) => {
      // One that was replaced or told to end is no news.
      if (requested || member.server !== server || this.#closing.signal.aborted) return;
      const how = signal === null ? `exit code ${exitCode}` : signal;
      this.#feed(member, "exited", `its process ended with ${how}`);
    });
  }

  /** Something happened: the next state by the table, and what follows from it. */
  #feed(member: Supervised, input: ServerInput, reason = inputMeanings[input]): void {
    if (this.#closing.signal.aborted) return;
    const before = member.record;
    const { record, actions } = step(before, input, {
      rules: this.#rules,
      now: this.#clock.now(),
      othersHealthy: this.#othersHealthy(member),
    });
    member.record = record;
    if (actions.includes("withdraw")) member.withdrawal = reason;
    if (record.state === before.state) return;
    member.reason = reason;
    member.isToldToWait = false;
    this.#emit(member, { kind: "state", from: before.state, reason });
    this.#checkMinimum(member);
    member.interrupt(new StateError(`it is ${record.state} now`));
  }

  #othersHealthy(member: Supervised): number {
    return [...this.#members.values()].filter((one) => one !== member && one.isServing).length;
  }

  #checkMinimum(member: Supervised): void {
    const { minHealthy } = this.#rules;
    const healthy = [...this.#members.values()].filter((one) => one.isServing).length;
    const isBelow = healthy < minHealthy;
    if (isBelow && !this.#isBelowMinimum) {
      const reason = `${healthy} server(s) are healthy, ${minHealthy} should be`;
      this.#emit(member, { kind: "below_minimum", from: member.record.state, reason });
    }
    this.#isBelowMinimum = isBelow;
  }

  #emit(
    member: Supervised,
    { kind, from, reason }: Pick<FleetEvent, "kind" | "from" | "reason">,
  ): void {
    const to = member.record.state;
    const event: FleetEvent = { at: Date.now(), url: member.url, kind, from, to, reason };
    const isGood = kind === "state" && (to === "healthy" || from === null);
    this.#logger[isGood ? "info" : "warn"](`${member.url} is ${to}: ${reason}`);
    this.#publish(event);
  }

  #publish(event: FleetEvent): void {
    this.#events.push(event);
    // Also where it is async, and fails later.
    new Promise((told) => told(this.#options.onEvent?.(event)))
      .catch((error) => this.#logger.error(`onEvent threw: ${messageOf(error)}`));
  }
}
