/** Where a request wants to go. */
export interface Address {
  /** The key in the path, where there is one. */
  readonly key: string | null;
  /** The path behind it. */
  readonly path: string;
}

/**
 * Takes the key out of a path `/s/KEY/v1/…`. Nothing is decoded, and nothing but what a key is made
 * of is taken for one.
 */
export function addressOf(pathname: string): Address {
  const found = /^\/s\/([A-Za-z0-9_-]{1,200})(\/.*)$/.exec(pathname);
  return found === null ? { key: null, path: pathname } : { key: found[1]!, path: found[2]! };
}

/** The key in the headers of a request, as clients of OpenAI's and Anthropic's APIs give it. */
export function keyOf(headers: Headers): string | null {
  const bearer = /^Bearer\s+(\S{1,500})$/i.exec(headers.get("authorization") ?? "");
  return bearer?.[1] ?? headers.get("x-api-key") ?? null;
}

/** Whether only this machine can reach an address. */
export function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "::1" || hostname === "[::1]" ||
    /^127(?:\.\d{1,3}){3}$/.test(hostname);
}

/** Whether two keys are the same, in a time that does not tell where they differ. */
export async function isSameKey(given: string, known: string): Promise<boolean> {
  const encoder = new TextEncoder();
  const [a, b] = await Promise.all(
    [given, known].map((key) => crypto.subtle.digest("SHA-256", encoder.encode(key))),
  );
  const [one, other] = [new Uint8Array(a!), new Uint8Array(b!)];
  let difference = 0;
  for (let index = 0; index < one.length; index++) difference |= one[index]! ^ other[index]!;
  return difference === 0;
}
