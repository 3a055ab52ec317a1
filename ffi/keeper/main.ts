/**
 * The keeper: a process that holds rank 0 of NCCL groups for its owner and outlives it.
 *
 * Ranks joined over NVLink share memory, so nobody notices when one is killed: its peers wait in a
 * collective for good. A rank that aborts lets them go. Standard input is the life line: at its end
 * the owner is gone, however it ended, and the keeper aborts what runs, makes the calls of the
 * owner's will and ends.
 *
 * @module
 */
import { readLines } from "../../src/internal/lines.ts";
import { messageOf } from "../../src/internal/thrown.ts";
import { Communicator } from "../nccl/communicator.ts";
import { type RequestName, toPlainError } from "../nccl/protocol.ts";
import { decodeMessage, encodeMessage, LINE_MARK } from "./frames.ts";
import type { KeeperMessage, OwnerMessage, Will } from "./messages.ts";

/** Longest life without an owner. */
const AFTERLIFE_MS = 60_000;
/** Longest wait for one call of the will. */
const CALL_MS = 8_000;

const ranks = new Map<number, Promise<Communicator>>();
const wills = new Map<string, Will>();

/** The owner may be gone: then nobody reads, and nothing is lost. */
function say(message: KeeperMessage): void {
  const line = new TextEncoder().encode(`\n${LINE_MARK}${encodeMessage(message)}\n`);
  try {
    for (let done = 0; done < line.length;) done += Deno.stdout.writeSync(line.subarray(done));
  } catch {
    // The owner is gone.
  }
}

const log = (text: string) => say({ kind: "log", text });
const logger = { debug: log, info: log, warn: log, error: log };

type Asked = Exclude<OwnerMessage, { kind: "will" } | { kind: "bye" }>;

async function answer(message: Asked): Promise<void> {
  const { id } = message;
  try {
    say({ kind: "answer", id, ok: true, value: await perform(message) });
  } catch (error) {
    say({ kind: "answer", id, ok: false, error: toPlainError(error) });
  }
}

async function perform(message: Asked): Promise<unknown> {
  if (message.kind === "open") {
    const { device, libraries, collectives, timeoutMs } = message;
    const opening = Communicator.open({ device, libraries, collectives, timeoutMs, logger });
    ranks.set(message.rank, opening);
    return (await opening).info;
  }
  const rank = await ranks.get(message.rank);
  if (rank === undefined) throw new Error(`there is no rank ${message.rank}`);
  switch (message.kind) {
    case "request": {
      const { name, arguments: args, phase, timeoutMs } = message;
      return await rank.request(name as RequestName, args as never, { phase, timeoutMs });
    }
    case "abort":
      return await rank.abort(new Error(message.reason));
    case "close":
      return await rank.close({ phase: "close rank", timeoutMs: message.timeoutMs });
  }
}

/** Lets the peers go, then does what the owner would have done. */
async function executeWill(): Promise<void> {
  const reason = new Error("the trainer's process is gone");
  await Promise.allSettled(
    [...ranks.values()].map(async (rank) => await (await rank).abort(reason)),
  );
  await Promise.allSettled([...wills.values()].map(callServer));
}

async function callServer({ url, headers, calls }: Will): Promise<void> {
  for (const { path, body } of calls) {
    const response = await fetch(url + path, {
      method: "POST",
      headers: { ...headers, "content-type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(CALL_MS),
    }).catch((error) => log(`${url}${path}: ${messageOf(error)}`));
    await response?.body?.cancel();
  }
}

function parse(line: string): OwnerMessage | undefined {
  try {
    return decodeMessage(line) as OwnerMessage;
  } catch {
    return undefined;
  }
}

async function main(): Promise<void> {
  say({ kind: "ready" });
  for await (const line of readLines(Deno.stdin.readable)) {
    const message = parse(line);
    // An owner that is killed while it writes leaves half a line.
    if (message === undefined) break;
    if (message.kind === "bye") Deno.exit(0);
    if (message.kind === "will") wills.set(message.will.url, message.will);
    else answer(message);
  }
  setTimeout(() => Deno.exit(1), AFTERLIFE_MS);
  await executeWill();
  Deno.exit(0);
}

// The end of the owner's terminal or job is no reason to leave servers behind.
for (const signal of ["SIGINT", "SIGHUP", "SIGTERM"] as const) {
  Deno.addSignalListener(signal, () => {});
}
await main();
