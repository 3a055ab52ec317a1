import { ValidationError } from "../errors.ts";

/** Longest text of certificates; a store of all public authorities takes a quarter of a MiB. */
const MOST_CHARACTERS = 4 * 2 ** 20;

/**
 * Checks that certificates are given as texts in PEM: Deno passes over everything else without a
 * word, and then trusts less than was meant.
 *
 * @throws {ValidationError} Naming which is not.
 */
export function checkCertificates(caCerts: readonly string[] | undefined): void {
  if (caCerts === undefined) return;
  if (!Array.isArray(caCerts)) {
    throw new ValidationError("`caCerts` must be a list of certificates, each a text in PEM");
  }
  for (const [i, text] of caCerts.entries()) {
    const blocks = typeof text === "string" && text.length <= MOST_CHARACTERS
      ? text.match(/-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g)
      : null;
    if (blocks !== null) continue;
    throw new ValidationError(
      `caCerts[${i}] has no certificate in PEM ("-----BEGIN CERTIFICATE-----"). Give the text of ` +
        "the file, not its path",
    );
  }
}
