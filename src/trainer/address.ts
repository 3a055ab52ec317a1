import { ValidationError } from "../errors.ts";
import { inBrackets, isLoopback } from "../internal/hostname.ts";

/** Where a link listens. */
export type LinkAddress =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tcp"; readonly hostname: string; readonly port: number };

/**
 * Reads `unix:/path` or `tcp:host:port`.
 *
 * @throws {ValidationError} It is neither.
 */
export function parseLinkAddress(text: string): LinkAddress {
  if (text.startsWith("unix:")) {
    const path = text.slice("unix:".length);
    // Linux takes 107 bytes and a closing zero.
    if (path.startsWith("/") && new TextEncoder().encode(path).length < 108) {
      return { kind: "unix", path };
    }
    throw new ValidationError(
      `The address of a trainer link "${text}" needs an absolute path of at most 107 bytes behind ` +
        '"unix:"',
    );
  }
  const match = /^tcp:(?:\/\/)?(\[[^\]]+\]|[^:[\]/]+):(\d{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (match !== null && port <= 65_535) {
    return { kind: "tcp", hostname: match[1]!.replace(/^\[|\]$/g, ""), port };
  }
  throw new ValidationError(
    `The address of a trainer link is "unix:/path" or "tcp:host:port", not "${text}"`,
  );
}

/** The address as it is given to a trainer. */
export function linkAddressText(address: LinkAddress): string {
  if (address.kind === "unix") return `unix:${address.path}`;
  const { hostname, port } = address;
  return `tcp:${inBrackets(hostname)}:${port}`;
}

/** Whether only processes of this host reach it. */
export function isLocal(address: LinkAddress): boolean {
  return address.kind === "unix" || isLoopback(address.hostname);
}
