import type { SGLangError } from "../errors.ts";

/** The same error in other words: its class, its code and its fields stay, `cause` is what is given. */
export function retold<Known extends SGLangError>(
  error: Known,
  message: string,
  cause: unknown = error,
): Known {
  const copy = new Error(message, { cause });
  for (const name of Object.getOwnPropertyNames(error)) {
    if (name === "message" || name === "stack" || name === "cause") continue;
    Object.defineProperty(copy, name, Object.getOwnPropertyDescriptor(error, name)!);
  }
  return Object.setPrototypeOf(copy, Object.getPrototypeOf(error));
}
