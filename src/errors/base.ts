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
  | "exhausted"
  | "needs_deno";

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
