/** The code of an error tells its class and so its fields. */
import {
  type AnySGLangError,
  type ErrorCode,
  HttpError,
  isSGLangError,
  type SyncStep,
  WeightSyncError,
} from "../../src/errors.ts";

export function fieldsOf(error: unknown): unknown {
  // @ts-expect-error An unknown error has no code.
  error.code;
  if (!isSGLangError(error)) return undefined;
  // @ts-expect-error Not every error has a status.
  error.status;
  if (error.code === "http") return [error.status, error.endpoint, error.serverMessage];
  if (error.code === "timeout") return [error.phase, error.timeoutMs, error.lastHeard];
  if (error.code === "partial") return [error.failures, error.rows, error.partial];
  // @ts-expect-error It is no code.
  if (error.code === "htp") return undefined;
  if (error.code === "weight_sync") {
    // A step is one of a list, its words are free text.
    const step: SyncStep | undefined = error.step;
    const words: string = error.phase;
    // @ts-expect-error There is no such step.
    if (error.step === "unpause") return step;
    return words;
  }
  return undefined;
}

/** Every code is handled: one more would not compile. */
export function advice(error: AnySGLangError): string {
  switch (error.code) {
    case "http":
      return error.serverMessage;
    case "permission":
      return error.flag;
    case "context_overflow":
      return String(error.limit);
    case "crashed":
      return error.logTail;
    case "unreachable":
      return error.url;
    case "native":
      return error.call;
    case "library":
      return error.tried.map(({ path }) => path).join();
    case "token_drift":
      return String(error.index);
    case "overtaken":
      return error.other;
    case "exhausted":
      return error.resource;
    case "needs_deno":
      return error.call;
    case "adapter_sync":
      return error.adapter;
    case "partial":
    case "template_limit":
    case "limit":
    case "weight_sync":
    case "timeout":
    case "validation":
    case "protocol":
    case "aborted":
    case "paused":
    case "unsupported":
    case "state":
    case "checkpoint":
      return error.message;
    default: {
      const none: never = error;
      return none;
    }
  }
}

export const code: "http" = new HttpError("m", { status: 1, endpoint: "e", serverMessage: "s" })
  .code;
export const step: ErrorCode = new WeightSyncError("m", { phase: "p", step: "pause" }).code;
// @ts-expect-error A step is one of a list.
export const wrong = new WeightSyncError("m", { phase: "p", step: "stop" });
