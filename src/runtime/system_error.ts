/** What the system refused, by Deno's names, and the codes that Node and Bun give. */
const codes = {
  AddrInUse: ["EADDRINUSE"],
  AddrNotAvailable: ["EADDRNOTAVAIL"],
  ConnectionRefused: ["ECONNREFUSED"],
  ConnectionReset: ["ECONNRESET"],
  NetworkUnreachable: ["ENETUNREACH"],
  NotCapable: ["ERR_ACCESS_DENIED"],
  NotADirectory: ["ENOTDIR"],
  NotFound: ["ENOENT"],
  TimedOut: ["ETIMEDOUT"],
} as const;

/** Kinds of refusals that are told apart. */
export type SystemErrorKind = keyof typeof codes;

/** Whether an error of the system is of a kind, whichever program runs this. */
export function isSystemError(error: unknown, ...kinds: readonly SystemErrorKind[]): boolean {
  if (!(error instanceof Error)) return false;
  const { code } = error as { readonly code?: unknown };
  return kinds.some((kind) =>
    error.name === kind || (codes[kind] as readonly unknown[]).includes(code)
  );
}
