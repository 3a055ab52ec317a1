/** Servers as the page of `dashboard` sees them: also those that are down, and whoever comes. */
import { capabilitiesOf } from "../client/capabilities.ts";
import { SGLangClient } from "../client/mod.ts";
import type { DashboardActions } from "../dashboard/mod.ts";
import type { ConnectOptions } from "../engine/mod.ts";
import { PermissionError, StateError } from "../errors.ts";
import type { ControlledServer } from "../fleet/mod.ts";
import { messageOf } from "../internal/thrown.ts";
import { SGLangRouter } from "../router/mod.ts";
import type { WatchedCall, WatchedEngine, WatchedEvent, WatchedServer } from "../telemetry/mod.ts";
import {
  type ControlCall,
  type ControlledFleet,
  controlledFleet,
  order,
} from "./control_client.ts";

/** Which servers to watch, and who steers them. */
export interface WatchedFleetOptions {
  /** Addresses that were named; none: those of the router, else those of the control endpoint. */
  readonly servers: readonly string[];
  readonly router: string | undefined;
  /** The control endpoint of a `serve`, where there is one. */
  readonly control: ControlCall | undefined;
  readonly access: Pick<ConnectOptions, "apiKey" | "adminApiKey" | "caCerts" | "proxy">;
}

const FIRST_LOOK_MS = 3000;

type Listener = (event: WatchedEvent) => void;

/**
 * Watches servers without being their engine. One that does not answer is shown as down and taken in
 * when it comes; who is drained is decided by the `serve` or the router that all go by.
 */
export class WatchedFleet implements WatchedEngine, AsyncDisposable {
  readonly #options: WatchedFleetOptions;
  readonly #router: SGLangRouter | undefined;
  readonly #members = new Map<string, WatchedMember>();
  readonly #listeners = new Set<Listener>();
  /** Who of router and control endpoint did not answer last. */
  readonly #silent = new Set<string>();
  #looking: Promise<void> | undefined;
  #isControlled = false;

  constructor(options: WatchedFleetOptions) {
    this.#options = options;
    const { servers, router, access: { apiKey, caCerts, proxy } } = options;
    this.#router = router === undefined
      ? undefined
      : SGLangRouter.connect(router, { apiKey, caCerts, proxy });
    for (const url of servers) this.#member(url);
  }

  /** The servers that are known so far. */
  get workers(): readonly WatchedServer[] {
    return [...this.#members.values()];
  }

  /** Asks the router and the control endpoint who is there now; who does not answer is told. */
  lookAround({ signal }: Pick<WatchedCall, "signal">): Promise<void> {
    return this.#looking ??= Promise.all([this.#askRouter(signal), this.#askControl(signal)])
      .then(() => {})
      .finally(() => this.#looking = undefined);
  }

  /**
   * Asks every server once; one that is down is no error.
   *
   * @throws {PermissionError} Deno may not ask one, which then will not come by itself.
   */
  async firstLook(signal: AbortSignal): Promise<void> {
    await this.lookAround({ signal });
    const call = { timeoutMs: FIRST_LOOK_MS, signal };
    await Promise.all(this.workers.map(async ({ client }) => {
      try {
        await client!.load(call);
      } catch (error) {
        if (error instanceof PermissionError) throw error;
      }
    }));
  }

  /** Calls `listener` when a server comes, goes or changes its state. */
  onWorkerEvent(listener: Listener): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** The buttons; to be asked for after a first look around. */
  get actions(): DashboardActions {
    return {
      pause: () => this.#onEach("paused", (member) => member.pause()),
      resume: () => this.#onEach("resumed", (member) => member.resume()),
      ...this.#steering(),
    };
  }

  /** Closes the connections. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#members.values()].map((member) => member[Symbol.asyncDispose]()));
  }

  #steering(): Pick<DashboardActions, "drain" | "undrain" | "explained"> {
    const { control, access: { apiKey } } = this.#options;
    if (control !== undefined && this.#isControlled) {
      const steer = (what: "drain" | "undrain") => async (url: string) => {
        this.#takeControlled(await order(control, what, { url: this.#known(url).url }));
      };
      return {
        drain: steer("drain"),
        undrain: steer("undrain"),
        explained: `Drain: the serve at ${control.url} takes the server out of its fleet, after ` +
          "its requests; everybody who goes by that fleet follows.",
      };
    }
    const router = this.#router;
    if (router === undefined) {
      return {
        explained: "There is no Drain here: no serve on this machine has these servers, and no " +
          "router was named.",
      };
    }
    return {
      drain: async (url) => {
        const member = this.#known(url);
        const serving = this.workers.filter(({ state }) => state !== "drained");
        if (serving.length === 1 && serving[0] === member) {
          throw new StateError(`${url} is the last server of the router`);
        }
        await router.removeWorker(url);
        member.isListed = false;
      },
      undrain: async (url) => {
        const member = this.#known(url);
        await router.addWorker(url, { apiKey });
        member.isListed = true;
      },
      explained: `Drain: the router at ${router.url} sends the server no more requests; programs ` +
        "that call it directly do not know.",
    };
  }

  async #askRouter(signal: AbortSignal | undefined): Promise<void> {
    const router = this.#router;
    if (router === undefined) return;
    try {
      const urls = new Set(
        (await router.workers({ signal, timeoutMs: 2000 })).map(({ url }) => url),
      );
      if (this.#options.servers.length === 0) { for (const url of urls) this.#member(url); }
      for (const member of this.#members.values()) member.isListed = urls.has(member.url);
      this.#heard(router.url);
    } catch (error) {
      if (error instanceof PermissionError) throw error;
      this.#missed(router.url, error);
    }
  }

  async #askControl(signal: AbortSignal | undefined): Promise<void> {
    const { control } = this.#options;
    if (control === undefined) return;
    try {
      const call = { ...control, timeoutMs: 2000, ...(signal === undefined ? {} : { signal }) };
      this.#takeControlled(await controlledFleet(call));
      this.#heard(control.url);
    } catch (error) {
      if (this.#isControlled) this.#missed(control.url, error);
    }
  }

  #takeControlled({ servers, router }: ControlledFleet): void {
    const { servers: named, router: given } = this.#options;
    const isWhole = named.length === 0 && (given === undefined || given === router?.url);
    for (const server of servers) {
      const member = isWhole ? this.#member(server.url) : this.#members.get(server.url);
      if (member === undefined) continue;
      this.#isControlled = true;
      member.steered(server);
    }
  }

  #member(url: string): WatchedMember {
    const known = this.#members.get(url);
    if (known !== undefined) return known;
    const made = new WatchedMember(url, this.#options.access, (event) => this.#emit(event));
    this.#members.set(url, made);
    return made;
  }

  #known(url: string): WatchedMember {
    const member = this.#members.get(url);
    if (member === undefined) throw new StateError(`${url} is not of this fleet`);
    return member;
  }

  #heard(url: string): void {
    if (!this.#silent.delete(url)) return;
    this.#emit({ url, from: "down", to: "up", reason: "it answers again" });
  }

  #missed(url: string, error: unknown): void {
    if (this.#silent.has(url)) return;
    this.#silent.add(url);
    this.#emit({ url, from: "up", to: "down", reason: messageOf(error) });
  }

  #emit(event: WatchedEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  async #onEach(done: string, call: (member: WatchedMember) => Promise<void>): Promise<void> {
    const members = [...this.#members.values()];
    const outcomes = await Promise.allSettled(members.map(call));
    const failed = outcomes.flatMap((outcome) => outcome.status === "rejected" ? [outcome] : []);
    if (failed.length === 0) return;
    throw new StateError(
      `${failed.length} of ${members.length} servers were not ${done}: ${
        messageOf(failed[0]!.reason)
      }`,
      { cause: failed[0]!.reason },
    );
  }
}

/** One server: what it told last, and what is decided of it elsewhere. */
class WatchedMember implements WatchedServer, AsyncDisposable {
  readonly url: string;
  readonly client: NonNullable<WatchedServer["client"]>;
  version: string | undefined;
  modelPath: string | undefined;
  weightVersion: string | null = null;
  /** Whether the router has it. */
  isListed = true;
  readonly #client: SGLangClient;
  readonly #emit: Listener;
  #hasReady = false;
  #steered: ControlledServer | undefined;
  #state: "new" | "serving" | "down" = "new";
  #problem: string | undefined;
  /** Pauses that have ended, whatever came of them. */
  #pauses = 0;
  /** Whether it took requests when it was asked after the last of them. */
  #servesAgain = false;

  constructor(url: string, access: WatchedFleetOptions["access"], emit: Listener) {
    this.url = url;
    this.#emit = emit;
    const client = new SGLangClient({ url, ...access, retry: { retries: 0 } });
    this.#client = client;
    const servesAgain = () => this.#servesAgain;
    this.client = {
      get isPaused() {
        return client.isPaused && !servesAgain();
      },
      load: (call) => this.#look(call),
      capabilities: () =>
        this.version === undefined
          ? Promise.reject(new StateError(`${url} has not answered`))
          : Promise.resolve({ hasReady: this.#hasReady }),
      ready: (call) => this.#serves(() => client.ready(call)),
      generates: (call) => this.#serves(() => client.generates(call)),
    };
  }

  get state(): string | undefined {
    if (this.#steered !== undefined) {
      return this.#steered.isDrained ? "drained" : this.#steered.state;
    }
    return this.isListed ? undefined : "drained";
  }

  get reason(): string | undefined {
    if (this.#problem !== undefined) return this.#problem;
    if (this.#steered !== undefined) return this.#steered.reason;
    return this.isListed ? undefined : "the router does not have it";
  }

  /** Takes what the control endpoint says of it. */
  steered(server: ControlledServer): void {
    const from = this.state;
    this.#steered = server;
    const to = this.state!;
    // Who was not there before is told by its own first answer.
    if (from === undefined || from === to) return;
    this.#emit({ url: this.url, from, to, reason: server.reason });
  }

  async pause(): Promise<void> {
    try {
      await this.#client.pause("in_place");
    } finally {
      this.#pauses++;
      this.#servesAgain = false;
    }
  }

  resume(): Promise<void> {
    return this.#client.resume();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client[Symbol.asyncDispose]();
  }

  /** What it says counts for more than a pause that failed, or that it has forgotten in a restart. */
  async #serves(question: () => Promise<boolean>): Promise<boolean> {
    const pauses = this.#pauses;
    const answer = await question();
    if (pauses === this.#pauses) this.#servesAgain = answer;
    return answer;
  }

  async #look(call: WatchedCall) {
    try {
      if (this.version === undefined) {
        const info = await this.#client.serverInfo(call);
        this.#hasReady = capabilitiesOf(info.raw).hasReady;
        this.version = info.version;
      }
      const [load, model] = await Promise.all([
        this.#client.load(call),
        this.#client.modelInfo(call),
      ]);
      this.modelPath = model.modelPath;
      this.weightVersion = model.weightVersion;
      this.#problem = undefined;
      this.#tell("serving", `it answers, with weights ${model.weightVersion}`);
      return load;
    } catch (error) {
      // Whoever answers there next may be another version.
      this.version = undefined;
      if (call.signal?.aborted !== true) {
        this.#problem = messageOf(error);
        this.#tell("down", this.#problem);
      }
      throw error;
    }
  }

  #tell(to: "serving" | "down", reason: string): void {
    const from = this.#state;
    if (from === to) return;
    this.#state = to;
    this.#emit({ url: this.url, from: from === "new" ? undefined : from, to, reason });
  }
}
