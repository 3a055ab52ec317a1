import { HttpError, PermissionError, SGLangError, UnreachableError } from "../errors.ts";
import { asPermissionError } from "../internal/permission.ts";

/** How a request failed to get an answer. */
export type UnreachableReason =
  /** Nothing listens: the request was not received. */
  | "refused"
  /** The host's name is not known. */
  | "dns"
  /** The connection ended before the answer was complete; the request may have been received. */
  | "lost"
  /** Anything else. */
  | "other";

/** What failed, for the words of the error. */
interface FailedRequest {
  readonly url: URL;
  readonly endpoint: string;
}

/**
 * Turns whatever `fetch` or reading a body threw into an error of this library.
 *
 * Deno gives `TypeError("fetch failed")` whose cause has a text but no code, so the text decides.
 */
export function classifyFetchError(error: unknown, request: FailedRequest): unknown {
  if (error instanceof SGLangError) return error;
  const { url, endpoint } = request;
  const port = url.port || (url.protocol === "https:" ? "443" : "80");
  const permission = asPermissionError(
    error,
    `--allow-net=${url.hostname}:${port}`,
    `connect to ${url.origin}`,
  );
  if (permission instanceof PermissionError) return permission;
  if (!(error instanceof Error) || error.name === "AbortError") return error;

  const text = error.cause instanceof Error ? error.cause.message : error.message;
  const reason = reasonOf(text);
  const told = { refused: "connection refused", dns: "unknown host", lost: "connection lost" };
  const detail = reason === "other" ? text : told[reason];
  return new UnreachableError(
    `Cannot connect to SGLang server at ${url.origin} (${endpoint}): ${detail}. ` +
      (reason === "lost"
        ? "The server closed the connection; read its log"
        : "Check that it runs and that the address is right"),
    { url: url.origin, cause: error },
  );
}

/** Why a server could not be reached, read from the cause of an {@linkcode UnreachableError}. */
export function unreachableReason(error: UnreachableError): UnreachableReason {
  const { cause } = error;
  if (!(cause instanceof Error)) return "other";
  return reasonOf(cause.cause instanceof Error ? cause.cause.message : cause.message);
}

function reasonOf(text: string): UnreachableReason {
  if (/connection refused/i.test(text)) return "refused";
  if (/dns error|failed to lookup/i.test(text)) return "dns";
  if (/connection closed|connection reset|broken pipe|reading a body|unexpected eof/i.test(text)) {
    return "lost";
  }
  return "other";
}

/** Makes the error of an answer whose status is not 2xx. */
export function httpError(
  options: { status: number; endpoint: string; body: string; server: string },
): HttpError {
  const { status, endpoint, server } = options;
  const serverMessage = serverMessageOf(options.body);
  return new HttpError(
    `${endpoint} at ${server} answered ${status}: ${serverMessage || "(no text)"}${hintOf(status)}`,
    { status, endpoint, serverMessage },
  );
}

function hintOf(status: number): string {
  if (status === 401) return ". Give the server's key as `apiKey`, or `adminApiKey` for control";
  if (status === 403) return ". The server has no key that allows this call";
  if (status >= 300 && status < 400) return ". Redirects are not followed: give the final address";
  return "";
}

/**
 * The server's own words in any of the forms that SGLang and its router answer: `error` as text or
 * with `message`, `message`, `detail`, plain text, or nothing.
 */
export function serverMessageOf(body: string): string {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    return body.trim();
  }
  return messageIn(parsed) ?? body.trim();
}

function messageIn(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (typeof value !== "object" || value === null) return undefined;
  const { error, message, detail, error_message } = value as Record<string, unknown>;
  for (const candidate of [error, message, error_message, detail]) {
    const found = messageIn(candidate);
    if (found !== undefined) return found;
  }
  return detail === undefined ? undefined : JSON.stringify(detail);
}
