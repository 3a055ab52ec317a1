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
