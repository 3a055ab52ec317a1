/** Errors of the endpoints, with the bodies that the real server answers. */

/** An answer other than 200, thrown by a handler. */
export class ApiError extends Error {
  readonly status: number;
  /** A JSON value, or plain text where it is a string. */
  readonly body: unknown;
  /** Whether the real server says it only when the request may run, so not while it is paused. */
  readonly isPastGate: boolean;

  constructor(status: number, body: unknown, isPastGate = false) {
    super(`HTTP ${status}`);
    this.status = status;
    this.body = body;
    this.isPastGate = isPastGate;
  }
}

/** What the real server answers where its Python raised a `ValueError`, as it prepares a request. */
export function valueError(message: string): ApiError {
  return new ApiError(400, { error: { message } }, true);
}

/** The same, raised as it reads the request, which it does while it is paused too. */
export function readingError(message: string): ApiError {
  return new ApiError(400, { error: { message } });
}

/** What the real server answers where a body does not have the declared form. */
export function formError(message: string): ApiError {
  return new ApiError(400, {
    object: "error",
    message: `1 validation error:\n  ${message}`,
    type: "Bad Request",
    param: null,
    code: 400,
  });
}

/** What the real server answers where its Python raised anything else. */
export function internalError(): ApiError {
  return new ApiError(500, "Internal Server Error");
}
