/** Errors of the endpoints, with the bodies that the real server answers. */

/** An answer other than 200, thrown by a handler. */
export class ApiError extends Error {
  readonly status: number;
  /** A JSON value, or plain text where it is a string. */
  readonly body: unknown;

  constructor(status: number, body: unknown) {
    super(`HTTP ${status}`);
    this.status = status;
    this.body = body;
  }
}

/** What the real server answers where its Python raised a `ValueError`. */
export function valueError(message: string): ApiError {
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
