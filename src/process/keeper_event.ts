/** What a keeper reports on its standard error, one a line. */
export type KeeperEvent =
  | { readonly event: "started"; readonly pid: number; readonly logFile: string }
  | { readonly event: "failed"; readonly errno: string; readonly message: string }
  | { readonly event: "log_failed"; readonly message: string }
  | { readonly event: "stuck"; readonly pids: readonly number[] }
  | {
    readonly event: "exited";
    readonly code: number | null;
    readonly signal: string | null;
    readonly requested: boolean;
    readonly logKept: boolean;
  };

/** The event of a line, or `undefined` when it is something else, such as a Python traceback. */
export function parseKeeperEvent(line: string): KeeperEvent | undefined {
  if (!line.startsWith('{"event": ')) return undefined;
  try {
    // Both ends of this line are ours and of one version.
    return JSON.parse(line) as KeeperEvent;
  } catch {
    return undefined;
  }
}
