/** Each call to the system that any reader or writer of paths makes fails in turn: only our errors come. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { writeSafetensors } from "../../../src/checkpoint/mod.ts";
import { ReplayBuffer, writeJsonLines, writeRollout } from "../../../src/collector/mod.ts";
import { publishDelta } from "../../../src/delta/mod.ts";
import { makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { isSGLangError } from "../../../src/errors.ts";
import { runtime } from "../../../src/runtime/mod.ts";
import { batch, readers, writers } from "../../_support/paths.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";

type Call = (...given: unknown[]) => unknown;

/** Calls of the system that can fail, of the runtime and of the files that it opens. */
const calls = [
  ...["open", "stat", "lstat", "readFile", "writeTextFile", "readDir", "mkdir", "rename"],
  "makeTempDir",
] as const;
const fileCalls = ["read", "write", "seek", "stat", "sync"] as const;

/** What the system says, in Deno's words. */
const faults = Object.entries(
  {
    EIO: [Error, "Input/output error (os error 5)"],
    EMFILE: [Error, "Too many open files (os error 24)"],
    EACCES: [Deno.errors.PermissionDenied, "Permission denied (os error 13)"],
    EPROTO: [Error, "Protocol error (os error 71)"],
  } as const,
).map(([code, [Kind, message]]) => () => Object.assign(new Kind(message), { code }));

/** Lets the call with a number fail while `work` runs; how many there were. */
async function failing(number: number, fault: () => Error, work: () => Promise<unknown>) {
  const system = runtime() as unknown as Record<string, Call>;
  const before = calls.map((name) => [name, system[name]!] as const);
  let count = 0;
  const counted = (call: Call, self: unknown): Call => (...given) => {
    if (count++ === number) throw fault();
    return call.apply(self, given);
  };
  for (const [name, call] of before) {
    const own = counted(call, system);
    system[name] = name === "readDir" ? own : async (...given: unknown[]) => {
      const made = await own(...given);
      if (name !== "open") return made;
      const file = made as Record<string, Call>;
      for (const one of fileCalls) {
        const inFile = counted(file[one]!, file);
        file[one] = async (...given: unknown[]) => await inFile(...given);
      }
      return file;
    };
  }
  try {
    await work();
  } finally {
    for (const [name, call] of before) system[name] = call;
  }
  return count;
}

/** The errors that are none of ours, of any call of `work` that fails in any way. */
async function foreignOf(work: () => Promise<unknown>): Promise<string[]> {
  const total = await failing(-1, faults[0]!, work);
  assert.ok(total > 0);
  const foreign: string[] = [];
  for (let number = 0; number < Math.min(total, 24); number++) {
    try {
      await failing(number, faults[number % faults.length]!, work);
    } catch (error) {
      if (!isSGLangError(error)) foreign.push(`call ${number} of ${total}: ${error}`);
    }
  }
  return foreign;
}

Deno.test("whichever call to the system fails while something is read, the error is ours", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  await makeTinyCheckpoint(at("model"));
  await writeJsonLines(at("rows.jsonl"), batch);
  await writeRollout(at("rollout"), batch);
  await new ReplayBuffer({ capacity: 1 }).save(at("buffer"));
  await publishDelta(at("store"), at("model"), { version: "1" });
  const places: Readonly<Record<string, string>> = {
    "readRollout()": "rollout",
    "jsonLinesDataset()": "rows.jsonl",
    "ReplayBuffer.restore()": "buffer",
    "DeltaStore": "store",
  };
  const left = ["an adapter", "parquetDataset()", "huggingFaceDataset()", "EmbeddedServer.start()"];
  const foreign: Record<string, string[]> = {};
  for (const [name, read] of Object.entries(readers)) {
    if (left.includes(name)) continue;
    foreign[name] = await foreignOf(() => read(at(places[name] ?? "model")));
  }
  assert.deepEqual(Object.entries(foreign).filter(([, errors]) => errors.length > 0), []);
});

Deno.test("whichever call to the system fails while something is written, the error is ours", async () => {
  await using folder = await temporaryFolder();
  await makeTinyCheckpoint(join(folder.path, "model"));
  await writeSafetensors(join(folder.path, "a"), []);
  let made = 0;
  const foreign: Record<string, string[]> = {};
  for (const [name, write] of Object.entries(writers)) {
    const work = () => write(join(folder.path, `${made++}`), join(folder.path, "model"));
    foreign[name] = await foreignOf(work);
  }
  assert.deepEqual(Object.entries(foreign).filter(([, errors]) => errors.length > 0), []);
});
