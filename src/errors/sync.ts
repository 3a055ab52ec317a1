/** What goes wrong while weights are brought to servers. */
import { SGLangError } from "./base.ts";

/** The steps of a weight sync, in order. */
export type SyncStep =
  | "probe"
  | "source"
  | "check"
  | "init"
  | "stage"
  | "pause"
  | "drain"
  | "flush"
  | "mark"
  | "begin"
  | "update"
  | "end"
  | "synchronise"
  | "verify"
  | "version"
  | "resume"
  | "recover";

/** New weights did not reach every server. */
export class WeightSyncError<
  Code extends "weight_sync" | "overtaken" = "weight_sync" | "overtaken",
> extends SGLangError<Code> {
  /** The step that failed, to branch on; `undefined` outside of a sync. */
  readonly step: SyncStep | undefined;
  /** What failed in words, for example `"update bucket 2 of 5"`. */
  readonly phase: string;
  /** The server that failed, when one did. */
  readonly server: string | undefined;
  /** Makes the error. */
  constructor(
    message: string,
    options: ErrorOptions & {
      phase: string;
      step?: SyncStep | undefined;
      server?: string | undefined;
      code?: Code | undefined;
    },
  ) {
    super((options.code ?? "weight_sync") as Code, message, options);
    this.step = options.step;
    this.phase = options.phase;
    this.server = options.server;
  }
}

/**
 * Another trainer writes to a server of this sync: from then on nothing more is sent to that server,
 * and nothing is said of what it holds. Sync again when the other is done.
 */
export class SyncOvertakenError extends WeightSyncError<"overtaken"> {
  /** The other: its name while its sync runs, else the version that it left. */
  readonly other: string;
  /** The weight version that was found where our mark should be. */
  readonly found: string | null;
  /** Makes the error. */
  constructor(
    message: string,
    options: ErrorOptions & {
      phase: string;
      step?: SyncStep | undefined;
      server?: string | undefined;
      other: string;
      found: string | null;
    },
  ) {
    super(message, { ...options, code: "overtaken" });
    this.other = options.other;
    this.found = options.found;
  }
}

/** An adapter did not reach the servers; none keeps it, and its name is used up. */
export class AdapterSyncError extends SGLangError<"adapter_sync"> {
  /** Name of the adapter. */
  readonly adapter: string;
  /** The servers that did not take it, and why. */
  readonly failures: readonly { readonly url: string; readonly error: Error }[];
  /** Makes the error. */
  constructor(
    message: string,
    options: ErrorOptions & {
      adapter: string;
      failures: readonly { readonly url: string; readonly error: Error }[];
    },
  ) {
    super("adapter_sync", message, options);
    this.adapter = options.adapter;
    this.failures = options.failures;
  }
}
