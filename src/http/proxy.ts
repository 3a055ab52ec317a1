import { ValidationError } from "../errors.ts";
import { grantedEnv } from "../internal/permission.ts";
import { toBase64 } from "../internal/text_of_bytes.ts";
import { type Address, addressOf } from "./address.ts";

/** A proxy between us and a server. */
export interface Proxy {
  readonly address: Address;
  /** What the proxy needs to know who asks. */
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * The proxy for connections to `target`, or `undefined` for none.
 *
 * @param option Address of a proxy; `"environment"` for what `http_proxy`, `https_proxy`,
 * `all_proxy` and `no_proxy` say, as far as Deno may read them. Without it there is no proxy,
 * whatever the environment says.
 * @throws {ValidationError} When the address is not one of an HTTP proxy.
 */
export function findProxy(target: Address, option: string | undefined): Proxy | undefined {
  if (option === undefined) return undefined;
  if (option !== "environment") return parseProxy(option, "`proxy`");
  const names = [target.isSecure ? "https_proxy" : "http_proxy", "all_proxy"];
  const found = names.map(fromEnvironment).find((value) => value !== undefined);
  if (found === undefined || isExcepted(target.hostname, fromEnvironment("no_proxy") ?? "")) {
    return undefined;
  }
  return parseProxy(
    found.includes("://") ? found : `http://${found}`,
    "The proxy of the environment",
  );
}

function fromEnvironment(name: string): string | undefined {
  return grantedEnv(name) || grantedEnv(name.toUpperCase()) || undefined;
}

function parseProxy(text: string, what: string): Proxy {
  const url = URL.parse(text);
  if (url === null || url.protocol !== "http:") {
    throw new ValidationError(
      `${what} must be "environment" or the http address of a proxy, such as "http://proxy:3128"`,
    );
  }
  const { username, password } = url;
  const login = `${decoded(username, what)}:${decoded(password, what)}`;
  const key = toBase64(new TextEncoder().encode(login));
  const headers = username === "" ? {} : { "proxy-authorization": `Basic ${key}` };
  return { address: addressOf(url), headers: headers as Record<string, string> };
}

function decoded(part: string, what: string): string {
  try {
    return decodeURIComponent(part);
  } catch (error) {
    // The password is not told.
    throw new ValidationError(
      `${what} has a user or password with a broken %: write a % itself as %25`,
      { cause: error },
    );
  }
}

/** Whether `no_proxy` names a host: itself, a domain above it, or `*`. */
function isExcepted(hostname: string, noProxy: string): boolean {
  return noProxy.split(",").map((entry) => entry.trim().toLowerCase()).some((entry) => {
    if (entry === "") return false;
    const name = entry.replace(/^\*?\./, "").replace(/:\d+$/, "");
    return entry === "*" || hostname === name || hostname.endsWith(`.${name}`);
  });
}
