/** Whether a name or an address is this machine alone. */
export function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "::1" || /^127(\.\d{1,3}){3}$/.test(hostname);
}

/** A host as it stands before a port: addresses of IPv6 in brackets. */
export function inBrackets(hostname: string): string {
  return hostname.includes(":") ? `[${hostname}]` : hostname;
}

/** The host of an address as a listener takes it: addresses of IPv6 without brackets. */
export function hostOf(url: string): string {
  return new URL(url).hostname.replace(/^\[|\]$/g, "");
}
