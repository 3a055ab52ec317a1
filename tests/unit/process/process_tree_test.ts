import assert from "node:assert/strict";
import { join } from "node:path";
import { AbortedError, CrashedError, ValidationError } from "../../../src/errors.ts";
import { ProcessTree } from "../../../src/process/mod.ts";
import { aliveOf } from "../../_support/processes.ts";
import { allGone, firstLine, hasPython, launchShell } from "./_tree.ts";

const ignore = !await hasPython();

function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name, ignore, fn });
}

test("exit code and last lines of a process that ends by itself are reported", async () => {
  await using tree = await launchShell("echo out; echo err >&2; exit 3");
  const exit = await tree.wait();
  assert.equal(exit.exitCode, 3);
  assert.equal(exit.signal, null);
  assert.equal(exit.requested, false);
  assert.equal(exit.logTail, "out\nerr");
  await Deno.remove(exit.logFile!);
});

// case 17
test("the temporary log stays after a failure and goes after a clean end; stop works twice", async () => {
  const failed = await (await launchShell("echo why; exit 1")).wait();
  assert.ok(failed.logFile);
  assert.equal(await Deno.readTextFile(failed.logFile), "why\n");
  await Deno.remove(failed.logFile);

  const stopped = await launchShell("sleep 300");
  const { logFile } = stopped;
  const first = await stopped.stop();
  assert.deepEqual(await stopped.stop(), first);
  assert.equal(first.requested, true);
  assert.equal(first.signal, "SIGTERM");
  assert.equal(first.logFile, null);
  await assert.rejects(Deno.stat(logFile), Deno.errors.NotFound);
});

test("a process that ignores SIGTERM is killed after the grace, with its own-session child", async () => {
  await using tree = await launchShell(
    "trap '' TERM; setsid sleep 300 & echo $!; while :; do sleep 0.05; done",
  );
  const child = Number(await firstLine(tree));
  const exit = await tree.stop({ graceMs: 100 });
  assert.equal(exit.signal, "SIGKILL");
  assert.deepEqual(exit.stuckPids, []);
  assert.deepEqual(await aliveOf([tree.pid, child]), []);
});

test("what outlives the main process is ended too, without being asked", async () => {
  const lines: string[] = [];
  await using tree = await launchShell("setsid sleep 300 & echo $!; exit 0", {
    onLine: (line) => lines.push(line),
  });
  const exit = await tree.wait();
  assert.equal(exit.exitCode, 0);
  assert.deepEqual(await aliveOf([Number(lines[0])]), []);
});

test("the main process dies with its keeper", async () => {
  await using tree = await launchShell("echo $PPID; exec sleep 300");
  Deno.kill(Number(await firstLine(tree)), "SIGKILL");
  const exit = await tree.wait();
  assert.equal(exit.signal, "SIGKILL");
  assert.equal(exit.requested, false);
  await Deno.remove(exit.logFile!);
  await allGone([tree.pid]);
});

test("output does not block the child while our event loop is busy, and is all in the log file", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const marker = join(folder, "done");
    const logFile = join(folder, "logs", "server.log");
    const lines: string[] = [];
    await using tree = await launchShell(
      `seq 1 200000; echo end > ${marker}`,
      { logFile, onLine: (line) => lines.push(line) },
    );
    // No await from here on: nothing of ours reads the pipe.
    const sleeper = new Int32Array(new SharedArrayBuffer(4));
    while (!existsNow(marker)) Atomics.wait(sleeper, 0, 0, 20);
    await tree.wait();
    const log = (await Deno.readTextFile(logFile)).trimEnd().split("\n");
    assert.equal(log.length, 200_000);
    assert.equal(log.at(-1), "200000");
    assert.equal(lines.at(-1), "200000");
    const leftOut = lines.map((line) => /^\[(\d+) lines left out here/.exec(line)?.[1] ?? "0");
    const notices = leftOut.filter((count) => count !== "0");
    const missing = leftOut.reduce((sum, count) => sum + Number(count), 0);
    assert.equal(lines.length - notices.length + missing, 200_000);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

function existsNow(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

test("secrets, colours and the states of progress bars do not reach the log", async () => {
  await using tree = await launchShell(
    String
      .raw`printf 'key=s3cret, again s3cret\n'; printf '\033[1mbold\033[0m\n'; printf '0%%\r50%%\r100%%\n'`,
    { secrets: ["s3cret"] },
  );
  const { logTail } = await tree.wait();
  assert.equal(logTail, "key=***, again ***\nbold\n100%");
});

test("the environment is inherited, set and unset, and the PATH gets folders in front", async () => {
  await using tree = await launchShell('echo "$HOME|$ADDED|${TERM_PROBE-unset}|${PATH%%:*}"', {
    env: { ADDED: "yes", TERM_PROBE: null },
    prependPath: ["/first"],
  });
  const { logTail } = await tree.wait();
  assert.equal(logTail, `${Deno.env.get("HOME")}|yes|unset|/first`);
});

test("a program that does not exist is reported at once, with its name", async () => {
  await assert.rejects(
    ProcessTree.launch({ command: ["/no/such/program"], name: "the server" }),
    (error) =>
      error instanceof CrashedError &&
      error.message.startsWith("Cannot start the server: ") &&
      error.message.includes("/no/such/program"),
  );
});

test("a keeper's Python that does not exist is reported with what to do", async () => {
  await assert.rejects(
    ProcessTree.launch({ command: ["true"], keeperPython: "/no/python" }),
    { name: "CrashedError", message: /Cannot run \/no\/python.*Give the path of a Python 3/ },
  );
});

test("a callback that throws does not stop the log", async () => {
  const seen: string[] = [];
  const reported = Promise.withResolvers<unknown>();
  const onError = (event: ErrorEvent) => {
    event.preventDefault();
    reported.resolve(event.error);
  };
  globalThis.addEventListener("error", onError);
  try {
    await using tree = await launchShell("echo one; echo two", {
      onLine(line) {
        seen.push(line);
        if (line === "one") throw new Error("from the callback");
      },
    });
    await tree.wait();
    assert.deepEqual(seen, ["one", "two"]);
    assert.equal((await reported.promise as Error).message, "from the callback");
  } finally {
    globalThis.removeEventListener("error", onError);
  }
});

test("waiting can be given up; the process is left alone", async () => {
  await using tree = await launchShell("sleep 300");
  const abort = new AbortController();
  const waiting = tree.wait({ signal: abort.signal });
  abort.abort();
  await assert.rejects(waiting, AbortedError);
  assert.deepEqual(await aliveOf([tree.pid]), [tree.pid]);
});

Deno.test("an order that makes no sense is refused before anything is started", async () => {
  await assert.rejects(ProcessTree.launch({ command: [] }), ValidationError);
  await assert.rejects(
    ProcessTree.launch({ command: ["true"], stopGraceMs: -1 }),
    { message: "`stopGraceMs` must be a number of at least 0, not -1" },
  );
  await assert.rejects(
    ProcessTree.launch({ command: ["true"], signal: AbortSignal.abort() }),
    AbortedError,
  );
});

Deno.test({
  name: "without permission to run Python the error names the flag",
  permissions: { run: false },
  async fn() {
    await assert.rejects(
      ProcessTree.launch({ command: ["true"], keeperPython: "python3" }),
      { name: "PermissionError", flag: "--allow-run=python3" },
    );
  },
});
