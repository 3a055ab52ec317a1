/**
 * The error classes of this library.
 *
 * Every error that this library throws on purpose is an {@linkcode SGLangError} with a `code`, so a
 * caller can branch on `error.code` and read what was wrong, what was expected and what to do next
 * in `error.message`.
 *
 * @example
 * ```ts
 * import { HttpError, isSGLangError } from "@sglang-rl/sglang-rl";
 *
 * try {
 *   const endpoint = "POST /generate";
 *   throw new HttpError("Busy", { status: 503, endpoint, serverMessage: "queue is full" });
 * } catch (error) {
 *   if (isSGLangError(error) && error.code === "http") {
 *     console.log(error.status, error.serverMessage); // the code tells the class and its fields
 *   }
 * }
 * ```
 *
 * @module
 */

/** What kind of failure an {@linkcode SGLangError} is. */
export type ErrorCode =
  | "validation"
  | "unreachable"
  | "http"
  | "protocol"
  | "timeout"
  | "aborted"
  | "crashed"
  | "paused"
  | "unsupported"
  | "permission"
  | "state"
  | "weight_sync"
  | "overtaken"
  | "adapter_sync"
  | "checkpoint"
  | "native"
  | "library"
  | "token_drift"
  | "context_overflow"
  | "partial"
  | "template_limit"
  | "limit"
  | "exhausted";

/** Longest message of an error; of a longer one the middle is left out. */
const MAX_MESSAGE_CHARS = 16_384;

/** The root of all errors of this library. */
export abstract class SGLangError<Code extends ErrorCode = ErrorCode> extends Error {
  /** What kind of failure this is. */
  readonly code: Code;

  /** Makes an error of the given kind; `message` says what was wrong, expected and what to do. */
  constructor(code: Code, message: string, options?: ErrorOptions) {
    super(shortened(message), options);
    this.code = code;
    this.name = new.target.name;
  }
}

/** What a peer or a file says may be in a message, so its length is limited for all of them here. */
function shortened(message: string): string {
  if (message.length <= MAX_MESSAGE_CHARS) return message;
  const half = MAX_MESSAGE_CHARS / 2;
  const left = message.length - 2 * half;
  return `${message.slice(0, half)} […${left} characters left out…] ${message.slice(-half)}`;
}

/** An argument was wrong; nothing was sent. */
export class ValidationError extends SGLangError<"validation"> {
  /** Makes the error. */
  constructor(message: string, options?: ErrorOptions) {
    super("validation", message, options);
  }
}

/** Why a peer could not be reached. */
export type UnreachableReason =
  /** Nothing listens: the request was not received. */
  | "refused"
  /** The host's name is not known. */
  | "dns"
  /** The connection ended before the answer was complete; the request may have been received. */
  | "lost"
  /** No encrypted connection: the certificate is not trusted, too old, or for another name. */
  | "tls"
  /** Anything else. */
  | "other";

/** Nobody answered at the given address. */
export class UnreachableError extends SGLangError<"unreachable"> {
  /** The address that was tried, without credentials. */
  readonly url: string;
  /** Why, as far as it is known. */
  readonly reason: UnreachableReason;
  /** Makes the error. */
  constructor(
    message: string,
    options: ErrorOptions & { url: string; reason?: UnreachableReason | undefined },
  ) {
    super("unreachable", message, options);
    this.url = options.url;
    this.reason = options.reason ?? "other";
  }
}

/** A server answered with an error. */
export class HttpError extends SGLangError<"http"> {
  /** The HTTP status; for an error inside a stream that began with 200, the code it carried. */
  readonly status: number;
  /** Method and path, for example `POST /generate`. */
  readonly endpoint: string;
  /** The server's own words. */
  readonly serverMessage: string;
  /** Makes the error. */
  constructor(
    message: string,
    options: ErrorOptions & { status: number; endpoint: string; serverMessage: string },
  ) {
    super("http", message, options);
    this.status = options.status;
    this.endpoint = options.endpoint;
    this.serverMessage = options.serverMessage;
  }
}

/** A peer answered something that its protocol does not allow. */
export class ProtocolError extends SGLangError<"protocol"> {
  /** Makes the error. */
  constructor(message: string, options?: ErrorOptions) {
    super("protocol", message, options);
  }
}

/** A wait reached its deadline. */
export class TimeoutError extends SGLangError<"timeout"> {
  /** Which wait this was, for example `"server ready"`. */
  readonly phase: string;
  /** How long was waited, in milliseconds. */
  readonly timeoutMs: number;
  /** Who was waited for, when known. */
  readonly peer: string | undefined;
  /** What was last heard from the peer, when anything was. */
  readonly lastHeard: string | undefined;
  /** Makes the error; the message is written from the fields. */
  constructor(
    options: ErrorOptions & {
      phase: string;
      timeoutMs: number;
      peer?: string | undefined;
      lastHeard?: string | undefined;
      hint?: string | undefined;
    },
  ) {
    const { phase, timeoutMs, peer, lastHeard, hint } = options;
    super(
      "timeout",
      `Timed out in phase "${phase}" after ${timeoutMs} ms` +
        (peer === undefined ? "" : `, waiting for ${peer}`) +
        (lastHeard === undefined ? "" : `; last heard: ${lastHeard}`) +
        (hint === undefined ? "" : `. ${hint}`),
      options,
    );
    this.phase = phase;
    this.timeoutMs = timeoutMs;
    this.peer = peer;
    this.lastHeard = lastHeard;
  }
}

/** The caller's `AbortSignal` fired; its reason is the `cause`. */
export class AbortedError extends SGLangError<"aborted"> {
  /** Makes the error; `phase` says what was under way. */
  constructor(phase: string, options?: ErrorOptions) {
    super("aborted", `Aborted in phase "${phase}"`, options);
  }
}

/** A managed process ended although it should run. */
export class CrashedError extends SGLangError<"crashed"> {
  /** The exit code, or `null` when a signal ended it. */
  readonly exitCode: number | null;
  /** The signal that ended it, when one did. */
  readonly signal: string | null;
  /** The last lines that it logged. */
  readonly logTail: string;
  /** Makes the error. */
  constructor(
    message: string,
    options: ErrorOptions & { exitCode: number | null; signal?: string | null; logTail: string },
  ) {
    super("crashed", message, options);
    this.exitCode = options.exitCode;
    this.signal = options.signal ?? null;
    this.logTail = options.logTail;
  }
}

/** A server is paused and would not answer. */
export class PausedError extends SGLangError<"paused"> {
  /** Makes the error. */
  constructor(message: string, options?: ErrorOptions) {
    super("paused", message, options);
  }
}

/** The server or the platform cannot do what was asked. */
export class UnsupportedError extends SGLangError<"unsupported"> {
  /** Makes the error. */
  constructor(message: string, options?: ErrorOptions) {
    super("unsupported", message, options);
  }
}

/** Deno refused a permission. */
export class PermissionError extends SGLangError<"permission"> {
  /** The exact flag that would allow it, for example `--allow-net=127.0.0.1:30000`. */
  readonly flag: string;
  /** Makes the error. */
  constructor(message: string, options: ErrorOptions & { flag: string }) {
    super("permission", message, options);
    this.flag = options.flag;
  }
}

/** A call came at a time when it cannot be served, such as after `close()`. */
export class StateError extends SGLangError<"state"> {
  /** Makes the error. */
  constructor(message: string, options?: ErrorOptions) {
    super("state", message, options);
  }
}

/** A checkpoint file is damaged or not what was expected. */
export class CheckpointError extends SGLangError<"checkpoint"> {
  /** Makes the error. */
  constructor(message: string, options?: ErrorOptions) {
    super("checkpoint", message, options);
  }
}

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

/** A call into CUDA or NCCL failed. */
export class NativeError extends SGLangError<"native"> {
  /** The function that failed, for example `ncclBroadcast`. */
  readonly call: string;
  /** Its result code. */
  readonly result: number;
  /** Makes the error. */
  constructor(message: string, options: ErrorOptions & { call: string; result: number }) {
    super("native", message, options);
    this.call = options.call;
    this.result = options.result;
  }
}

/** A shared library could not be opened. */
export class LibraryError extends SGLangError<"library"> {
  /** Every place that was tried, with the reason it failed. */
  readonly tried: ReadonlyArray<{ path: string; reason: string }>;
  /** Makes the error. */
  constructor(
    message: string,
    options: ErrorOptions & { tried: ReadonlyArray<{ path: string; reason: string }> },
  ) {
    super("library", message, options);
    this.tried = options.tried;
  }
}

/** Token ids and the text they came from no longer agree. */
export class TokenDriftError extends SGLangError<"token_drift"> {
  /** Index of the first token that differs. */
  readonly index: number;
  /** Makes the error. */
  constructor(message: string, options: ErrorOptions & { index: number }) {
    super("token_drift", message, options);
    this.index = options.index;
  }
}

/** A prompt leaves no room for an answer in the model's context. */
export class ContextOverflowError extends SGLangError<"context_overflow"> {
  /** Tokens of the prompt; `null` when they are not known. */
  readonly promptTokens: number | null;
  /** Most tokens that a prompt may have. */
  readonly limit: number;
  /** Makes the error; the message is written from the fields. */
  constructor(options: ErrorOptions & { promptTokens: number | null; limit: number }) {
    const { promptTokens, limit } = options;
    const prompt = promptTokens === null ? "The prompt" : `The prompt of ${promptTokens} tokens`;
    super(
      "context_overflow",
      `${prompt} is too long: the server takes at most ${limit} tokens. Shorten it, or start the ` +
        "server with a longer context",
      options,
    );
    this.promptTokens = promptTokens;
    this.limit = limit;
  }
}

/** A row of a batch that failed. */
export interface RowFailure {
  /** Index of the row in the flat list of rows that were asked for. */
  readonly row: number;
  /** Why it failed. */
  readonly error: Error;
}

/** Some rows of a batch failed; the others are done and in `partial`. */
export class PartialResultError<Result = unknown> extends SGLangError<"partial"> {
  /** The rows that failed, and why. */
  readonly failures: readonly RowFailure[];
  /** Indices of the rows that are done, in the order of `partial`. */
  readonly rows: readonly number[];
  /** The result of the rows that are done. */
  readonly partial: Result;
  /** Makes the error; the message is written from the fields. */
  constructor(
    options: { failures: readonly RowFailure[]; rows: readonly number[]; partial: Result },
  ) {
    const { failures, rows, partial } = options;
    const count = failures.length + rows.length;
    const named = failures.slice(0, 3).map(({ row, error }) => `row ${row}: ${error.message}`);
    const more = failures.length > 3 ? `; and ${failures.length - 3} more` : "";
    super(
      "partial",
      `${failures.length} of ${count} rows failed (${named.join("; ")}${more}). The other ` +
        `${rows.length} are in error.partial`,
      { cause: failures[0]?.error },
    );
    this.failures = failures;
    this.rows = rows;
    this.partial = partial;
  }
}

/** A chat template used more than it may: see `TemplateLimits`. It is refused, not run to its end. */
export class TemplateLimitError extends SGLangError<"template_limit"> {
  /** Which limit it reached. */
  readonly limit: string;
  /** How much it is. */
  readonly allowed: number;
  /** Makes the error. */
  constructor(limit: string, allowed: number, options?: ErrorOptions) {
    super(
      "template_limit",
      `The chat template was stopped at its limit ${limit} = ${allowed}. A template of a model that ` +
        "you do not trust may be made to hang a program; if this one is meant to do so much, " +
        "give larger limits: `templateLimits` of a wrapper",
      options,
    );
    this.limit = limit;
    this.allowed = allowed;
  }
}

/** A peer or a file holds more than the limit allows; the rest was not read. */
export class LimitError extends SGLangError<"limit"> {
  /** Name of the limit, for example `"answerBytes"`. */
  readonly limit: string;
  /** Its value. */
  readonly max: number;
  /** Makes the error. */
  constructor(message: string, options: ErrorOptions & { limit: string; max: number }) {
    super("limit", message, options);
    this.limit = options.limit;
    this.max = options.max;
  }
}

/** The machine has no more of something: room on a disk, open files, memory. */
export class ExhaustedError extends SGLangError<"exhausted"> {
  /** What there is no more of. */
  readonly resource: "disk" | "files" | "ports" | "memory";
  /** Makes the error. */
  constructor(message: string, options: ErrorOptions & { resource: ExhaustedError["resource"] }) {
    super("exhausted", message, options);
    this.resource = options.resource;
  }
}

/** Every error of this library: its `code` tells the class, and so the fields. */
export type AnySGLangError =
  | ValidationError
  | UnreachableError
  | HttpError
  | ProtocolError
  | TimeoutError
  | AbortedError
  | CrashedError
  | PausedError
  | UnsupportedError
  | PermissionError
  | StateError
  | CheckpointError
  | WeightSyncError<"weight_sync">
  | SyncOvertakenError
  | AdapterSyncError
  | NativeError
  | LibraryError
  | TokenDriftError
  | ContextOverflowError
  | PartialResultError
  | TemplateLimitError
  | LimitError
  | ExhaustedError;

/**
 * Whether an error is one of this library; its `code` then narrows it to its class.
 *
 * @example
 * ```ts
 * import { isSGLangError } from "@sglang-rl/sglang-rl";
 *
 * function retryAfterMs(error: unknown): number | undefined {
 *   if (!isSGLangError(error)) return undefined;
 *   return error.code === "http" && error.status === 503 ? 1000 : undefined;
 * }
 * ```
 */
export function isSGLangError(error: unknown): error is AnySGLangError {
  return error instanceof SGLangError;
}
