import {
  AbortedError,
  ContextOverflowError,
  type ErrorCode,
  HttpError,
  LimitError,
  PausedError,
  SGLangError,
  TemplateLimitError,
  TimeoutError,
  UnreachableError,
  UnsupportedError,
  ValidationError,
} from "../errors.ts";
import { messageOf } from "../internal/thrown.ts";

/** What a refusal tells a client besides its message. */
export interface RefusalParts {
  /** HTTP status. */
  readonly status: number;
  /** What kind of refusal it is, in a word that programs can compare. */
  readonly reason: string;
  /** The field that it is about. */
  readonly param?: string | undefined;
  /** Seconds after which to ask again. */
  readonly retryAfterS?: number | undefined;
}

/** A request that the gateway does not answer; each API writes it in its own shape. */
export class GatewayRefusal extends SGLangError {
  /** HTTP status. */
  readonly status: number;
  /** What kind of refusal it is: `context_length_exceeded`, `session_ended`, … */
  readonly reason: string;
  /** The field that it is about; `null` where it is about none. */
  readonly param: string | null;
  /** Seconds after which to ask again; `null` where asking again does not help. */
  readonly retryAfterS: number | null;

  /** A refusal. */
  constructor(message: string, parts: RefusalParts & ErrorOptions) {
    super(codeOf(parts.status), shortened(message), parts);
    this.status = parts.status;
    this.reason = parts.reason;
    this.param = parts.param === undefined ? null : shortened(parts.param);
    this.retryAfterS = parts.retryAfterS ?? null;
  }
}

/** Longest text of a refusal: it may name what a client sent, which may be megabytes. */
const MAX_MESSAGE = 2000;

function shortened(text: string): string {
  return text.length <= MAX_MESSAGE ? text : `${text.slice(0, MAX_MESSAGE)}…`;
}

/** A request that is wrong. */
export function invalid(message: string, param?: string): GatewayRefusal {
  return new GatewayRefusal(message, { status: 400, reason: "invalid_request", param });
}

/** Any error as a refusal. */
export function asRefusal(error: unknown): GatewayRefusal {
  if (error instanceof GatewayRefusal) return error;
  const make = (status: number, reason: string, more: Partial<RefusalParts> = {}) =>
    new GatewayRefusal(messageOf(error), { status, reason, cause: error, ...more });
  if (error instanceof ContextOverflowError) return make(400, "context_length_exceeded");
  if (error instanceof ValidationError) return make(400, "invalid_request");
  if (error instanceof LimitError) return make(400, "invalid_request");
  if (error instanceof TemplateLimitError) return make(400, "invalid_request");
  if (error instanceof UnsupportedError) return make(400, "unsupported");
  if (error instanceof HttpError) return ofServer(error);
  if (error instanceof PausedError) return make(503, "paused", { retryAfterS: 5 });
  if (error instanceof UnreachableError) return make(503, "no_server", { retryAfterS: 1 });
  if (error instanceof TimeoutError) return make(504, "timeout");
  if (error instanceof AbortedError) return make(499, "aborted");
  if (error instanceof SGLangError) return make(502, error.code);
  // What is not ours may tell what no client should know.
  return new GatewayRefusal("The gateway failed on this request; its log tells why", {
    status: 500,
    reason: "internal",
    cause: error,
  });
}

/** What a request of another method is told. */
export function wrongMethod(method: string, wanted: string): GatewayRefusal {
  return new GatewayRefusal(`Use ${wanted} here, not ${method}`, {
    status: 405,
    reason: "method_not_allowed",
  });
}

function ofServer(error: HttpError): GatewayRefusal {
  const { status, serverMessage } = error;
  if (status === 429 || status === 503) {
    const parts = { status, reason: "overloaded", retryAfterS: 1, cause: error };
    return new GatewayRefusal(`The server is busy: ${serverMessage}`, parts);
  }
  const isTheirs = status >= 400 && status < 500 && status !== 401 && status !== 403;
  return new GatewayRefusal(
    isTheirs ? serverMessage : `The server behind the gateway failed: ${serverMessage}`,
    { status: isTheirs ? 400 : 502, reason: isTheirs ? "invalid_request" : "server", cause: error },
  );
}

function codeOf(status: number): ErrorCode {
  if (status === 413 || status === 429) return "limit";
  if (status === 403 || status === 410) return "state";
  return status < 500 ? "validation" : "http";
}
