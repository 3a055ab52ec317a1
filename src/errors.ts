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

import { SGLangError } from "./errors/base.ts";
import type {
  CheckpointError,
  ExhaustedError,
  LibraryError,
  LimitError,
  NativeError,
  NeedsDenoError,
  PermissionError,
  StateError,
  ValidationError,
} from "./errors/local.ts";
import type {
  ContextOverflowError,
  PartialResultError,
  TemplateLimitError,
  TokenDriftError,
} from "./errors/rollout.ts";
import type {
  AbortedError,
  CrashedError,
  HttpError,
  PausedError,
  ProtocolError,
  TimeoutError,
  UnreachableError,
  UnsupportedError,
} from "./errors/server.ts";
import type { AdapterSyncError, SyncOvertakenError, WeightSyncError } from "./errors/sync.ts";

export { type ErrorCode, SGLangError } from "./errors/base.ts";
export {
  CheckpointError,
  ExhaustedError,
  LibraryError,
  LimitError,
  NativeError,
  NeedsDenoError,
  PermissionError,
  StateError,
  ValidationError,
} from "./errors/local.ts";
export {
  ContextOverflowError,
  PartialResultError,
  type RowFailure,
  TemplateLimitError,
  TokenDriftError,
} from "./errors/rollout.ts";
export {
  AbortedError,
  CrashedError,
  HttpError,
  PausedError,
  ProtocolError,
  TimeoutError,
  UnreachableError,
  type UnreachableReason,
  UnsupportedError,
} from "./errors/server.ts";
export {
  AdapterSyncError,
  SyncOvertakenError,
  type SyncStep,
  WeightSyncError,
} from "./errors/sync.ts";

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
  | ExhaustedError
  | NeedsDenoError;

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
