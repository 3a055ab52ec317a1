import { ExhaustedError } from "../errors.ts";

/** What the system says when there is no more of something, and what to do about it. */
const kinds: Readonly<Record<string, readonly [ExhaustedError["resource"], string]>> = {
  ENOSPC: ["disk", "The disk is full: make room or choose another folder"],
  EDQUOT: ["disk", "The disk quota is used up: make room or choose another folder"],
  EMFILE: [
    "files",
    "This process has too many open files: raise `ulimit -n`, or lower `maxConcurrency`",
  ],
  ENFILE: ["files", "This machine has too many open files: end what holds them"],
  EADDRNOTAVAIL: [
    "ports",
    "This machine has no free port for another connection: lower `maxConcurrency`",
  ],
  ENOMEM: ["memory", "This machine has no memory left"],
  ENOBUFS: ["memory", "This machine has no memory left for its network"],
};

/** Codes of Linux that Deno gives no name, and those whose name it may leave out. */
const unnamed: Readonly<Record<number, string>> = {
  5: "EIO",
  18: "EXDEV",
  24: "EMFILE",
  26: "ETXTBSY",
  27: "EFBIG",
  28: "ENOSPC",
  30: "EROFS",
  36: "ENAMETOOLONG",
  40: "ELOOP",
  116: "ESTALE",
  122: "EDQUOT",
};

/** The code of the system of an error, such as `ENOSPC`; Deno gives it as `code`. */
export function systemCodeOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code, message } = error as { code?: unknown; message: string };
  if (typeof code === "string") return code;
  // Deno says this one by itself.
  if (message === "Empty path is not allowed") return "EINVAL";
  return unnamed[Number(/\(os error (\d+)\)/.exec(message)?.[1])];
}

/** An error of ours when the system ran out of something while it did `purpose`, else the same. */
export function asExhaustedError(error: unknown, purpose: string): unknown {
  const kind = kinds[systemCodeOf(error) ?? ""];
  if (kind === undefined) return error;
  const [resource, advice] = kind;
  return new ExhaustedError(`Cannot ${purpose}. ${advice}`, { resource, cause: error });
}
