import {
  AbortedError,
  HttpError,
  SGLangError,
  SyncOvertakenError,
  type SyncStep,
  UnreachableError,
  WeightSyncError,
} from "../../errors.ts";
import { messageOf } from "../../internal/thrown.ts";
import { unwrapFailure } from "../fleet/on_all.ts";
import type { FleetServer } from "../fleet/server.ts";

/**
 * The error of a failed step: what the caller did wrong or cancelled stays what it is, all else
 * becomes a {@linkcode WeightSyncError} with step, server and cause.
 */
export function stepFailed(phase: string, error: unknown, step?: SyncStep): Error {
  const { server, cause } = unwrapFailure(error);
  if (cause instanceof SGLangError && isOwnKind(cause)) return cause;
  return new WeightSyncError(
    `SGLang weight update failed: ${wordsOf(cause)} (phase "${phase}"${
      server === undefined ? "" : `, server ${server.url}`
    })`,
    { phase, step, server: server?.url, cause },
  );
}

/** Whether a failure says that a server is gone or does not answer. */
export function isGone(error: unknown): boolean {
  const { cause } = unwrapFailure(error);
  return cause instanceof UnreachableError ||
    (cause instanceof SGLangError && cause.code === "timeout");
}

function isOwnKind(error: SGLangError): boolean {
  return [
    "weight_sync",
    "overtaken",
    "aborted",
    "validation",
    "unsupported",
    "state",
    "checkpoint",
    "permission",
  ]
    .includes(error.code);
}

function wordsOf(cause: unknown): string {
  if (cause instanceof HttpError) return cause.serverMessage;
  return messageOf(cause);
}

/** The error that a sync ends with: the step's, and what became of the servers. */
export function syncFailed(
  error: unknown,
  at: { readonly phase: string; readonly step: SyncStep },
  servers: readonly FleetServer[],
): Error {
  const { phase, step } = at;
  const first = stepFailed(phase, error, step);
  const fate = describeFleet(servers);
  if (first instanceof AbortedError) {
    const report = new WeightSyncError(`Aborted in phase "${phase}". ${fate}`, {
      phase,
      step,
      cause: first.cause,
    });
    return new AbortedError(phase, { cause: report });
  }
  if (first instanceof SyncOvertakenError) {
    const { other, found, server } = first;
    return new SyncOvertakenError(`${first.message}. ${fate}`, {
      phase: first.phase,
      server,
      other,
      found,
      cause: first,
    });
  }
  if (first instanceof WeightSyncError) {
    return new WeightSyncError(`${first.message}. ${fate}`, {
      phase: first.phase,
      step: first.step ?? step,
      server: first.server,
      cause: first.cause ?? first,
    });
  }
  const isHarmless = servers.every(({ condition, paused }) => condition === "untouched" && !paused);
  if (isHarmless) return first;
  return new WeightSyncError(`SGLang weight update failed: ${first.message}. ${fate}`, {
    phase,
    step,
    cause: first,
  });
}

/** What every server holds and does, in one sentence. */
export function describeFleet(servers: readonly FleetServer[]): string {
  const each = servers.map((server) => {
    if (server.problem !== undefined) return `${server.url}: ${server.problem}`;
    const holds = HOLDS[server.condition];
    return `${server.url}: ${holds}, ${server.isSilent ? "kept paused" : "serving"}`;
  });
  return each.length === 0 ? "No server was changed" : `Servers now: ${each.join("; ")}`;
}

const HOLDS = {
  untouched: "old weights",
  updating: "partly updated",
  partial: "partly updated",
  taken: "new weights, unconfirmed",
  complete: "new weights",
  foreign: "another trainer's",
} as const;
