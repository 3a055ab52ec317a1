import { createHash, timingSafeEqual } from "node:crypto";

/** Whether two secrets are the same, in a time that does not tell where they differ. */
export function isSameSecret(given: string, known: string): boolean {
  // Of checksums, so that the length does not show either.
  const [a, b] = [given, known].map((text) => createHash("sha256").update(text).digest());
  return timingSafeEqual(a!, b!);
}

/** Whether a request carries a key as `authorization: Bearer KEY`; RFC 9110 lets the word be in any case. */
export function hasBearerKey(request: Request, key: string): boolean {
  const given = /^bearer +(.*)$/i.exec(request.headers.get("authorization") ?? "");
  return isSameSecret(given?.[1] ?? "", key);
}
