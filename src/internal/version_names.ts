/** What SGLang calls the weights that a server begins with; no sync gives that name. */
export const FIRST_NAME = "default";

/** A name of weights that ends in a number, such as `step-10`, in its two parts; else `undefined`. */
export function numberedName(
  name: string,
): { readonly before: string; readonly number: number } | undefined {
  const found = /^(.*?)(\d{1,15})$/s.exec(name);
  return found === null ? undefined : { before: found[1]!, number: Number(found[2]) };
}
