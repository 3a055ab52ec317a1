import { SGLangClient } from "../client/mod.ts";
import type { ServerRecord } from "./machine.ts";
import type { StartableServer } from "./options.ts";
import { PresentWork } from "./present_work.ts";
import type { ServerState } from "./transitions.ts";

/** What is known of a supervised server. */
export interface SupervisedServer {
  /** Address. */
  readonly url: string;
  /** Where it stands. */
  readonly state: ServerState;
  /** Why it stands there. */
  readonly reason: string;
  /** Restarts since it was steady last. */
  readonly restarts: number;
  /** Probes that it missed in a row. */
  readonly missed: number;
  /** Requests that broke on it in a row. */
  readonly failed: number;
  /** Whether somebody took it out of rotation. */
  readonly isDrained: boolean;
  /** Weight version that it last told. */
  readonly weightVersion: string | null;
}

/** One server of a supervisor: its record, what is to be done, and how to ask it. */
export class Supervised extends PresentWork {
  readonly url: string;
  readonly client: SGLangClient;
  record: ServerRecord;
  reason = "it is new";
  weightVersion: string | null = null;
  isDrained = false;
  /** Whether the fleet has it not any more because of us. */
  isWithdrawn = false;
  /** Longest wait for its requests when it is taken out, in milliseconds; set by who does it. */
  drainMs = 0;
  /** Why it is to be taken out, when it is. */
  withdrawal: string | undefined;
  /** Refits in a row that failed. */
  refitFailures = 0;
  /** Whether it was told that there is nothing to bring it. */
  isToldToWait = false;
  /** The process, when it is ours. */
  server: StartableServer | undefined;

  constructor(
    url: string,
    record: ServerRecord,
    options: {
      readonly apiKey?: string | undefined;
      readonly headers?: Readonly<Record<string, string>> | undefined;
      readonly proxy?: string | undefined;
      readonly caCerts?: readonly string[] | undefined;
      readonly server?: StartableServer | undefined;
    },
  ) {
    super();
    this.url = url;
    this.record = record;
    this.server = options.server;
    this.client = new SGLangClient({
      url,
      apiKey: options.apiKey,
      headers: options.headers,
      proxy: options.proxy,
      caCerts: options.caCerts,
      retry: { retries: 0 },
    });
  }

  /** Whether requests may go to it. */
  get isServing(): boolean {
    return this.record.state === "healthy" || this.record.state === "suspect";
  }

  /** A copy of what is known. */
  get told(): SupervisedServer {
    const { url, reason, isDrained, weightVersion, record } = this;
    const { state, restarts, missed, failed } = record;
    return { url, state, reason, restarts, missed, failed, isDrained, weightVersion };
  }
}
