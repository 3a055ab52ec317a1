import { createHash, timingSafeEqual } from "node:crypto";
import { ValidationError } from "../errors.ts";

/** Whether two secrets are the same, in a time that does not tell where they differ. */
export function isSameSecret(given: string, known: string): boolean {
  // Of checksums, so that the length does not show either.
  const [a, b] = [given, known].map((text) => createHash("sha256").update(text).digest());
  return timingSafeEqual(a!, b!);
}

/** Whether a request carries a key as `authorization: Bearer KEY`; RFC 9110 lets the word be in any case. */
export function hasBearerKey(request: Request, key: string): boolean {
  const given = /^bearer +([^ ].*)?$/i.exec(request.headers.get("authorization") ?? "");
  return isSameSecret(given?.[1] ?? "", key);
}

/**
 * Refuses a key that no caller could send: a header carries visible ASCII characters as they are, and
 * nothing else for certain.
 *
 * @throws {ValidationError} Naming it, never showing it.
 */
export function requireSendableKey(name: string, key: string | undefined): void {
  if (key === undefined || /^[\x21-\x7e]+$/.test(key)) return;
  throw new ValidationError(
    `${name} must be of visible ASCII characters without spaces, which a header can carry` +
      (key === "" ? "; it is empty" : key.trim() === key ? "" : "; it begins or ends with a blank"),
  );
}
