import { ProtocolError, ValidationError } from "../errors.ts";

/** The line and the headers of a request. */
export interface RequestHead {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE" | "CONNECT";
  /** Path with query, or the whole address where a proxy is asked. */
  readonly target: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** The first part of an answer. */
export interface ResponseHead {
  readonly status: number;
  /** Whether the connection may be used again, as far as the head says. */
  readonly keepsAlive: boolean;
  /** Names in lower case; a header that came twice has both values. */
  readonly headers: ReadonlyMap<string, string>;
}

/** How the bytes of an answer's body end. */
export type BodyFraming =
  | { readonly kind: "none" }
  | { readonly kind: "length"; readonly length: number }
  | { readonly kind: "chunked" }
  | { readonly kind: "close" };

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** A header's value: bytes, and none that would end the header or be another one. */
const PLAIN = /^[\t\x20-\x7e\x80-\xff]*$/;

/**
 * Checks headers before any is sent.
 *
 * @throws {ValidationError} Naming the header, never its value, which may be a key.
 */
export function checkHeaders(headers: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(headers)) {
    if (!TOKEN.test(name)) {
      throw new ValidationError(`${JSON.stringify(name)} is not the name of a header`);
    }
    if (typeof value === "string" && PLAIN.test(value)) continue;
    throw new ValidationError(
      `The value of the header "${name}" holds characters that a header cannot have. ` +
        "Does a key end with a line break?",
    );
  }
}

/** The bytes of a request's head. */
export function encodeHead({ method, target, headers }: RequestHead): string {
  let text = `${method} ${target} HTTP/1.1\r\n`;
  for (const name in headers) text += `${name}: ${headers[name]}\r\n`;
  return text + "\r\n";
}

/** Reads the lines of an answer's head, without the blank one at its end. */
export function parseHead(lines: readonly string[]): ResponseHead {
  const [statusLine = ""] = lines;
  const match = /^HTTP\/1\.([01]) (\d{3})(?: |$)/.exec(statusLine);
  if (match === null) {
    throw new ProtocolError(
      `not HTTP: the answer begins with ${JSON.stringify(brief(statusLine))}`,
    );
  }
  const headers = new Map<string, string>();
  for (let i = 1; i < lines.length; i++) {
    const line = lines[i]!;
    const colon = line.indexOf(":");
    const name = line.slice(0, Math.max(colon, 0));
    if (!TOKEN.test(name)) {
      throw new ProtocolError(`not HTTP: the header ${JSON.stringify(brief(line))}`);
    }
    const key = name.toLowerCase();
    const value = line.slice(colon + 1).trim();
    const former = headers.get(key);
    headers.set(key, former === undefined ? value : `${former}, ${value}`);
  }
  const connection = headers.get("connection")?.toLowerCase() ?? "";
  const keepsAlive = match[1] === "1" ? !connection.includes("close") : connection === "keep-alive";
  return { status: Number(match[2]), keepsAlive, headers };
}

/** How the body ends (RFC 9112, 6.3); what two readers could read in two ways is refused. */
export function framingOf({ status, headers }: ResponseHead): BodyFraming {
  const encoding = headers.get("content-encoding")?.toLowerCase() ?? "identity";
  if (encoding !== "identity") {
    throw new ProtocolError(`the answer is packed as ${brief(encoding)}, which was not asked for`);
  }
  if (status === 204 || status === 304) return { kind: "none" };
  const transfer = headers.get("transfer-encoding")?.toLowerCase();
  const length = headers.get("content-length");
  if (transfer !== undefined) {
    if (transfer === "chunked" && length === undefined) return { kind: "chunked" };
    throw new ProtocolError(`not HTTP: a body that comes as ${brief(transfer)} of a length`);
  }
  if (length === undefined) return { kind: "close" };
  // The same length twice is allowed.
  const lengths = new Set(length.split(",").map((text) => text.trim()));
  const [only = ""] = lengths;
  if (lengths.size !== 1 || !/^\d{1,15}$/.test(only)) {
    throw new ProtocolError(`not HTTP: the content-length ${JSON.stringify(brief(length))}`);
  }
  return only === "0" ? { kind: "none" } : { kind: "length", length: Number(only) };
}

function brief(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
