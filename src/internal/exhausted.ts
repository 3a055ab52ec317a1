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

/** The code of the system of an error, such as `ENOSPC`; Deno gives it as `code`. */
export function systemCodeOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code, message } = error as { code?: unknown; message: string };
  if (typeof code === "string") return code;
  // Deno says this one by itself.
  return message === "Empty path is not allowed" ? "EINVAL" : undefined;
}

/** An error of ours when the system ran out of something while it did `purpose`, else the same. */
export function asExhaustedError(error: unknown, purpose: string): unknown {
  const kind = kinds[systemCodeOf(error) ?? ""];
  if (kind === undefined) return error;
  const [resource, advice] = kind;
  return new ExhaustedError(`Cannot ${purpose}. ${advice}`, { resource, cause: error });
}
