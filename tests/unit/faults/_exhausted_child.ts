/**
 * Calls everything that reads or writes a path where the disk is full, a file may not grow and no more
 * files can be opened, as `ulimit` of its parent says, and tells what came out that is not ours.
 */
// deno-lint-ignore-file no-console
import { join } from "node:path";
import { isSGLangError } from "../../../src/errors.ts";
import { readers, writers } from "../../_support/paths.ts";

const [folder] = Deno.args as [string];
const checkpoint = join(folder, "checkpoint");
let wrong = 0;

async function fails(what: string, run: () => Promise<unknown>): Promise<void> {
  const error = await run().catch((error: unknown) => error);
  if (isSGLangError(error)) return;
  wrong++;
  console.log(what, Deno.inspect(error));
}

// A sink notes less than a file may hold, and a checkpoint and its deltas more.
const small = /Sink/;
let number = 0;
for (const [name, write] of Object.entries(writers)) {
  if (small.test(name)) continue;
  await fails(`${name}, too large`, () => write(join(folder, "new", String(number++)), checkpoint));
}
for (const [name, write] of Object.entries(writers)) {
  if (!/writeJsonLines|jsonLinesSink\(\)$/.test(name)) continue;
  await fails(`${name}, full disk`, () => write("/dev/full", checkpoint));
}
// Deno 2.9.6 makes a pipe for signals half a second after its start, and panics where it cannot.
const quiet = () => {};
Deno.addSignalListener("SIGUSR2", quiet);
Deno.removeSignalListener("SIGUSR2", quiet);
const open: Deno.FsFile[] = [];
try {
  for (;;) open.push(Deno.openSync("/dev/null"));
} catch { /* There are no more. */ }
for (const [name, write] of Object.entries(writers)) {
  await fails(`${name}, no files`, () => write(join(folder, "new", String(number++)), checkpoint));
}
for (const [name, read] of Object.entries(readers)) {
  // It makes a folder of its own.
  if (name === "publishDelta() of it") continue;
  await fails(`${name}, no files`, () => read(checkpoint));
}
for (const file of open) file.close();
if (wrong === 0) console.log("all are ours");
