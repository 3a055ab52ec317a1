import { HttpError } from "../errors.ts";
import { parseJson } from "../internal/json.ts";

/** How much of a server's words is in the message of an error. */
const MESSAGE_CHARS = 2000;

/** Makes the error of an answer whose status is not 2xx. */
export function httpError(
  options: {
    status: number;
    endpoint: string;
    body: string;
    server: string;
    /** Who answered in the server's place, when the answer tells. */
    proxy?: string | undefined;
  },
): HttpError {
  const { status, endpoint, server, proxy } = options;
  const serverMessage = serverMessageOf(options.body);
  const told = serverMessage.length > MESSAGE_CHARS
    ? `${serverMessage.slice(0, MESSAGE_CHARS)}… (more in serverMessage)`
    : serverMessage || "(no text)";
  const through = proxy === undefined ? "" : `. It came through a proxy (${proxy})`;
  return new HttpError(
    `${endpoint} at ${server} answered ${status}: ${told}` +
      hintOf(status) + through,
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
    parsed = parseJson(body, "The server");
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
