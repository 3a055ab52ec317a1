import assert from "node:assert/strict";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import fc from "fast-check";
import { openCheckpoint } from "../../../src/checkpoint/mod.ts";
import { writeJsonLines } from "../../../src/collector/mod.ts";
import { jsonLinesDataset } from "../../../src/datasets/mod.ts";
import { makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { isSGLangError } from "../../../src/errors.ts";
import { serversInFile } from "../../../src/fleet/mod.ts";
import { readRollout } from "../../../src/rollout_file/mod.ts";
import { batch, closed, readers, writers } from "../../_support/paths.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";

/** What stands at a path, or what is wrong with it. */
type Odd = (folder: string) => string | URL;

/** Nobody can take these, whether to read or to write. */
const impossible: Readonly<Record<string, Odd>> = {
  "a name of 300 letters": (folder) => join(folder, "a".repeat(300)),
  "a path of 5,000 letters": (folder) => join(folder, "a/".repeat(2500), "b"),
  "something in a loop of links": (folder) => join(folder, "loop/a"),
  "something in a file": (folder) => join(folder, "file/a"),
  "a NUL in the path": (folder) => join(folder, "a\0b"),
  "half a letter in the path": (folder) => join(folder, "\ud800"),
  "an empty text": () => "",
  "no text": () => 5 as never,
  "nothing given": () => undefined as never,
  "null": () => null as never,
  "a URL of something else": () => new URL("http://127.0.0.1:1/x"),
  "a URL of another machine": () => new URL("file://other/x"),
  "a broken % in a URL": (folder) => new URL(`${pathToFileURL(folder)}/%zz`),
  "bytes that are no letter in a URL": (folder) => new URL(`${pathToFileURL(folder)}/%ff`),
  "a NUL in a URL": (folder) => new URL(`${pathToFileURL(folder)}/%00`),
  "a slash's code in a URL": (folder) => new URL(`${pathToFileURL(folder)}/a%2fb`),
};
/** Nobody can read these. */
const unreadable: Readonly<Record<string, Odd>> = {
  "nothing at the path": (folder) => join(folder, "missing"),
  "nothing in a folder that is missing": (folder) => join(folder, "missing/a/b"),
  "an empty folder": (folder) => join(folder, "folder"),
  "a pipe": (folder) => join(folder, "pipe"),
  "a loop of links": (folder) => join(folder, "loop"),
  "a device without end": () => "/dev/zero",
};

/** The error of each, all at once: a call that hangs ends the test. */
async function errorsOf(
  take: (path: string) => Promise<unknown>,
  paths: Readonly<Record<string, Odd>>,
  folder: string,
): Promise<Record<string, unknown>> {
  const errors: Record<string, unknown> = {};
  await Promise.all(
    Object.entries(paths).map(async ([what, path]) => {
      try {
        errors[what] = await take(path(folder) as string);
      } catch (error) {
        errors[what] = error;
      }
    }),
  );
  return errors;
}

async function oddFolder(): Promise<AsyncDisposable & { readonly path: string }> {
  const folder = await temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  await new Deno.Command("mkfifo", { args: [at("pipe")] }).output();
  await Deno.symlink(at("loop"), at("loop"));
  await Deno.writeTextFile(at("file"), "x");
  await Deno.mkdir(at("folder"));
  return folder;
}

function checkOurs(name: string, errors: Readonly<Record<string, unknown>>): void {
  for (const [what, error] of Object.entries(errors)) {
    assert.ok(isSGLangError(error), `${name}, ${what}: ${Deno.inspect(error)}`);
    assert.ok(error.message.length < 12_000, `${name}, ${what}: a long message`);
  }
}

for (const [name, read] of Object.entries(readers)) {
  Deno.test(`${name} refuses every path that cannot be read, at once and by an error of ours`, async () => {
    await using folder = await oddFolder();
    checkOurs(name, await errorsOf(read, { ...impossible, ...unreadable }, folder.path));
  });
}

Deno.test("what writes refuses every path that cannot be written, by an error of ours", async () => {
  await using folder = await oddFolder();
  const checkpoint = join(folder.path, "checkpoint");
  await makeTinyCheckpoint(checkpoint);
  for (const [name, write] of Object.entries(writers)) {
    const take = (path: string) => write(path, checkpoint);
    checkOurs(name, await errorsOf(take, impossible, folder.path));
  }
});

Deno.test("a pipe that nobody reads holds nobody who writes", async () => {
  await using folder = await oddFolder();
  const pipe = { "a pipe": () => join(folder.path, "pipe") };
  const goOn = Object.entries(writers).filter(([name]) =>
    /writeJsonLines|jsonLinesSink/.test(name)
  );
  for (const [name, write] of goOn) {
    checkOurs(name, await errorsOf((path) => write(path, ""), pipe, folder.path));
  }
});

Deno.test("a full disk, a file that is too large and no more open files are errors of ours", async () => {
  await using folder = await temporaryFolder();
  const checkpoint = join(folder.path, "checkpoint");
  await makeTinyCheckpoint(checkpoint);
  await Deno.mkdir(join(folder.path, "new"));
  const child = join(import.meta.dirname!, "_exhausted_child.ts");
  // The kernel would end it at the limit of a file.
  // Deno would write what it covered, cut off at the limit, beside that of the tests.
  const script =
    `unset DENO_COVERAGE_DIR; trap "" XFSZ; ulimit -n 200; ulimit -f 4; exec "$0" "$@"`;
  const deno = [Deno.execPath(), "run", "-A", "--no-check", "--no-code-cache", "--cached-only"];
  const args = ["-c", script, ...deno, child, folder.path];
  const { stdout, stderr } = await new Deno.Command("bash", { args }).output();
  const text = new TextDecoder();
  assert.equal(text.decode(stdout), "all are ours\n", text.decode(stderr));
});

Deno.test("a pipe that is read can be written", async () => {
  await using folder = await oddFolder();
  const path = join(folder.path, "pipe");
  const reader = new Deno.Command("cat", { args: [path], stdout: "piped" }).spawn();
  const told = new Response(reader.stdout).text();
  // Until cat has opened it, nobody reads it.
  for (;;) {
    try {
      await writeJsonLines(path, batch);
      break;
    } catch (error) {
      assert.ok(isSGLangError(error) && error.code === "validation", Deno.inspect(error));
    }
  }
  await reader.status;
  assert.equal((await told).trim().split("\n").length, 1);
});

Deno.test("servers in a file: a path that cannot be read is told while it is polled", () => {
  for (const [what, path] of Object.entries(impossible)) {
    if (!/URL|NUL|half|text|given|null/.test(what)) continue;
    assert.throws(() => serversInFile(path("/tmp") as string), isSGLangError, what);
  }
});

Deno.test("whatever a name is made of, a reader gives an error of ours", async () => {
  await using folder = await temporaryFolder();
  const anyName = fc.string({ unit: "binary", minLength: 1 }).filter((name) => !/^\.*$/.test(name));
  await fc.assert(
    fc.asyncProperty(anyName, async (name) => {
      const path = `${folder.path}/missing/${name}`;
      for (const read of [openCheckpoint, readRollout, jsonLinesDataset]) {
        await assert.rejects(closed(read(path)), isSGLangError);
      }
    }),
    { numRuns: 40 },
  );
});
