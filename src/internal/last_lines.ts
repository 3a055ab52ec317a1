/** How the last lines that a process logged stand at the end of a message. */
const BEGIN = "Its last lines:\n";

/** The last `count` lines of a log, as the end of a message. */
export function lastLines(log: string, count: number): string {
  return BEGIN + log.split("\n").slice(-count).join("\n");
}

/** A message of ours, cut where the log of {@linkcode lastLines} begins: what a process wrote. */
export function splitLastLines(message: string): [ours: string, log: string] {
  const at = message.indexOf(BEGIN);
  return at < 0 ? [message, ""] : [message.slice(0, at), message.slice(at)];
}
