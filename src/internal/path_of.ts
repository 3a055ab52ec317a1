import { ValidationError } from "../errors.ts";

/**
 * A path that was given as text or as a `file:` URL.
 *
 * @param what What it is the path of, for the message: `"the store"`.
 * @throws {ValidationError} It is no path: no text, empty, with a NUL or half a letter in it, or a URL
 * of something else or with a broken `%`.
 */
export function pathOf(place: string | URL, what = "a file or folder"): string {
  const path = place instanceof URL ? pathOfUrl(place, what) : place as unknown;
  if (typeof path !== "string") {
    const kind = path === null ? "null" : typeof path;
    throw new ValidationError(`Give the path of ${what} as a text or a file: URL, not ${kind}`);
  }
  if (path === "") throw new ValidationError(`The path of ${what} is empty`);
  if (path.includes("\0")) {
    throw new ValidationError(`The path of ${what} has a NUL in it: ${JSON.stringify(path)}`);
  }
  // Deno and Node would name another file by it.
  if (/\p{Surrogate}/u.test(path)) {
    throw new ValidationError(`The path of ${what} has half a letter: ${JSON.stringify(path)}`);
  }
  return path;
}

function pathOfUrl(url: URL, what: string): string {
  if (url.protocol !== "file:" || url.hostname !== "") {
    throw new ValidationError(`${url.href} is no file: URL of this machine, as ${what} needs it`);
  }
  try {
    if (!/%2f/i.test(url.pathname)) return decodeURIComponent(url.pathname);
  } catch { /* It is told below. */ }
  throw new ValidationError(
    `${url.href} is no path: after each % of a URL stands a letter's code, and no slash's. Give the ` +
      "path as a text, or make the URL by pathToFileURL() of node:url",
  );
}
