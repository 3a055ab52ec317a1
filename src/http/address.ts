import { ValidationError } from "../errors.ts";
import { withoutTrailingSlashes } from "../internal/trailing_slashes.ts";

/** Where a server is. */
export interface Address {
  /** Scheme, host and port, as in a URL. */
  readonly origin: string;
  /** Path under which the server's own paths lie; empty or with a slash before it, none after. */
  readonly basePath: string;
  readonly isSecure: boolean;
  /** Host without the brackets of IPv6. */
  readonly hostname: string;
  readonly port: number;
  /** Host and port as the `host` header and `--allow-net` have them. */
  readonly host: string;
}

/**
 * Reads the address of a server.
 *
 * @throws {ValidationError} When it is no http address, or has a password in it.
 */
export function parseAddress(url: string, what = "Server address"): Address {
  const parsed = URL.parse(url);
  if (parsed === null || !/^https?:$/.test(parsed.protocol)) {
    throw new ValidationError(
      `${what} must be an http or https URL such as "http://127.0.0.1:30000", got ` +
        JSON.stringify(withoutCredentials(String(url)).slice(0, 200)),
    );
  }
  if (parsed.username !== "" || parsed.password !== "") {
    throw new ValidationError(
      `${what} ${parsed.host} must not carry a user or password: give the key as apiKey`,
    );
  }
  return addressOf(parsed);
}

/** The parts of a URL that is http or https. */
export function addressOf(url: URL): Address {
  const isSecure = url.protocol === "https:";
  return {
    origin: url.origin,
    basePath: withoutTrailingSlashes(url.pathname),
    isSecure,
    hostname: url.hostname.replace(/^\[|\]$/g, ""),
    port: url.port === "" ? (isSecure ? 443 : 80) : Number(url.port),
    host: url.host,
  };
}

function withoutCredentials(url: string): string {
  return url.replace(/\/\/[^@/]*@/, "//");
}
