import { withoutTrailingSlashes } from "./trailing_slashes.ts";

/**
 * One form of an address, however its end, the case of its host and its port are written, so that
 * addresses can be compared. What is no URL only loses the slashes at its end.
 */
export function canonicalUrl(url: string): string {
  return withoutTrailingSlashes(URL.parse(url)?.href ?? url);
}
