/** Errors that reach the command line speak of its flags, and what is wrong here is found first. */
import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { commandWords, inFlags } from "../../../src/cli/option_words.ts";
import { freePort } from "../../_support/free_port.ts";
import { startTiny, tinyCheckpoint } from "../embedded/_support.ts";
import { commandNames, programOf, run } from "./_support.ts";

/** Options of commands that the library knows nothing of. */
const ofCommandsAlone = new Set([
  ..."--json --wait --watch --interval --listen --control --rollback --dry-run --allow-older".split(
    " ",
  ),
  ..."--file --stream --prompts --prompt-tokens --rounds --undo --follow --lines".split(" "),
  ..."--no-supervise --control-port --embedded --embedded-version --record --model-name".split(" "),
  ..."--slurm --kubernetes --no-router --out --format --every --trained --only".split(" "),
]);

Deno.test("every option of a command is a word of its own, or the library's in its table", () => {
  for (const command of programOf().commands) {
    const told = Object.values(commandWords[command.name()] ?? {}).join(" ").split(" ");
    for (const { long } of command.options) {
      const isKnown = told.includes(long!) || ofCommandsAlone.has(long!) ||
        // Set by a command where a server starts, and by a page for its port.
        (command.name() === "doctor" && ["--router-python", "--port"].includes(long!));
      assert.ok(isKnown, `${command.name()} ${long} is in no table of option_words.ts`);
    }
    for (const flag of told.filter((word) => word.startsWith("--"))) {
      const has = command.options.some(({ long }) => long === flag);
      assert.ok(has, `${command.name()} has no ${flag}`);
    }
  }
  assert.deepEqual(Object.keys(commandWords).filter((name) => !commandNames().includes(name)), []);
});

/** What the library puts between backticks and no command has: reason by reason. */
const reachesNoCommand = new Set([
  // Parts that no command uses, or fields of programs.
  ..."count input retry extra templateLimits updateWeights wasReleasedElsewhere deadlines".split(
    " ",
  ),
  // Options of the router, of processes and of NCCL that commands leave alone.
  ..."policy prometheusPort nccl keeperPython firstGpu ncclPort memFractionStatic".split(" "),
  // What is between backticks by its value.
  ..."name option owner to from key message field disk".split(" "),
]);

Deno.test("every option that an error of the library names is in a table, or no command has it", async () => {
  const known = new Set(
    Object.values(commandWords).flatMap((words) => Object.keys(words))
      .flatMap((word) => word.split(".")),
  );
  const unknown = new Set<string>();
  for (
    const part of ["server", "process", "router", "engine", "fleet", "weights", "client", "http"]
  ) {
    for await (const text of sources(new URL(`../../../src/${part}/`, import.meta.url))) {
      const code = text.replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "");
      for (const match of code.matchAll(/\\`(?:\$\{)?([a-zA-Z]+)|"[^"\n]*?`([a-zA-Z]+)(?:`|: )/g)) {
        const word = (match[1] ?? match[2])!;
        if (!known.has(word) && !reachesNoCommand.has(word)) unknown.add(word);
      }
    }
  }
  assert.deepEqual([...unknown], []);
});

async function* sources(folder: URL): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (isDirectory) yield* sources(new URL(`${name}/`, folder));
    else if (name.endsWith(".ts")) yield await Deno.readTextFile(new URL(name, folder));
  }
}

Deno.test("a name of the library becomes the flag wherever an error has it, and nothing else changes", () => {
  const commands = Object.entries(commandWords);
  const forms = [
    (name: string) => `give \`${name}\` or nothing`,
    (name: string) => `\`${name}: "x"\` is not for this`,
    (name: string) => `set ${name}: "x" then`,
  ];
  fc.assert(fc.property(
    fc.constantFrom(...commands),
    fc.nat(),
    fc.constantFrom(...forms),
    fc.string(),
    ([command, words], at, form, given) => {
      const names = Object.keys(words).filter((name) => /^[a-z][A-Za-z]*$/.test(name));
      const name = names[at % names.length]!;
      const value = `/tmp/${given}/ ${name} \`${name}\``;
      const log = `Its last lines:\n\`${name}\` ${name}: "x"`;
      const told = inFlags(`${form(name)}. Of ${value}. ${log}`, command, ["x", `--y=${value}`]);
      assert.ok(told.endsWith(`. Of ${value}. ${log}`), told);
      const ours = told.slice(0, told.length - `. Of ${value}. ${log}`.length);
      assert.ok(ours.includes(words[name]!), told);
      assert.ok(!ours.includes("`"), told);
    },
  ));
});

Deno.test("messages of every command in its own words", () => {
  const said: readonly (readonly [command: string, message: string, told: string])[] = [
    ["serve", "with `python` or $SGLANG_PYTHON", "with --python or $SGLANG_PYTHON"],
    ["serve", "with `router.python` or", "with --router-python or"],
    ["serve", "lower `memFractionStatic`, or", "lower --arg mem-fraction-static, or"],
    ["serve", 'use `device: "cpu"`', "use --device cpu"],
    ["serve", "port needs the router", "--port needs the router"],
    [
      "sync",
      'transport "cuda-ipc" needs serversSeeDevice: true, your',
      "--transport cuda-ipc needs --servers-see-device, your",
    ],
    ["sync", 'use verify "version" or', "use --verify version or"],
    ["sync", 'tells weight version "transport"', 'tells weight version "transport"'],
    ["sync", 'Set castFloat32To: "bfloat16" to', "Set --cast-float32-to bfloat16 to"],
    ["generate", "top_p must be above 0, got 2", "--top-p must be above 0, got 2"],
    ["generate", "temperature must be", "--temperature must be"],
    ["launch", 'name must be small letters, got "A"', '--name must be small letters, got "A"'],
    ["restart", "or give `force`", "or give --force"],
    [
      "status",
      'phase "probe", server http://a/apiKey/x',
      'phase "probe", server http://a/apiKey/x',
    ],
  ];
  for (const [command, message, told] of said) assert.equal(inFlags(message, command), told);
});

Deno.test("errors of the library come to the command line in its flags", async () => {
  await using server = await startTiny();
  const folder = await tinyCheckpoint({ seed: 1 });
  const at = ["-s", server.url];
  const wrong: readonly (readonly [args: readonly string[], told: RegExp])[] = [
    [
      ["serve", "a/b", "--python", "/nowhere/python"],
      /Cannot run \/nowhere\/python.* as --python\n$/,
    ],
    [["generate", "Hello", ...at, "--top-p", "2"], /^error: --top-p must/],
    [
      ["sync", folder, ...at, "--transport", "cuda-ipc"],
      /--transport cuda-ipc needs --servers-see-device/,
    ],
    [["sync", folder, ...at, "--weight-version", ""], /^error: --weight-version must/],
    [[
      "sync",
      folder,
      ...at,
      "--transport",
      "disk",
      "--disk-folder",
      "/tmp",
      "--master-address",
      "127.0.0.1",
    ], /--master-address is for --transport/],
    [["launch", "--slurm", "model", "--name", "A b"], /^error: --name must/],
    [["launch", "--slurm", "model", "--time", "1:00 --x"], /^error: --time must/],
    [["launch", "--slurm", "model", "--image", "x"], /^error: --image is for --kubernetes/],
    [["launch", "--kubernetes", "model", "--cpus-per-task", "2"], /^error: --cpus-per-task is for/],
    [["launch", "--kubernetes", "model", "--image", "a b"], /^error: --image must/],
    [["gateway", ...at, "--adapter", "policy"], /--model-name/],
  ];
  for (
    const [args, told] of wrong
  ) {
    const { code, err } = await run(args);
    assert.ok(code === 1 || code === 2, `${args.join(" ")}: ${code} ${err}`);
    assert.match(err, told);
    assert.doesNotMatch(err, /`[a-z]+`|serversSeeDevice|masterAddress/);
  }
});

Deno.test("what is wrong on this machine is told before a server is asked", async () => {
  const nobody = `http://127.0.0.1:${freePort()}`;
  const folder = await Deno.makeTempDir();
  const file = join(folder, "file.txt");
  const damaged = join(folder, "damaged.safetensors");
  await Deno.writeTextFile(file, "text");
  await Deno.writeTextFile(damaged, "text that is no header");
  const missing = join(folder, "missing");
  const commands: readonly (readonly [args: readonly string[], at: string])[] = [
    ...[missing, folder, file, damaged].map((path) => [["sync", path], path] as const),
    [["sync", missing, "--dry-run"], missing],
    [["sync", missing, "--rollback"], missing],
    [["sync", file, "--rollback"], file],
    [["sync", file, "--watch"], file],
    [["generate", "--file", missing], missing],
    [["generate", "--file", folder], folder],
    [["gateway", "--record", join(missing, "rows.jsonl")], missing],
    [["gateway", "--record", folder], folder],
    ...["generate Hello", "gateway", "bench", "status", "pause", "resume", "metrics", "doctor"]
      .flatMap((command) =>
        [missing, file].map((path) => [[...command.split(" "), "--ca-cert", path], path] as const)
      ),
  ];
  const served = await run(["serve", folder]);
  assert.equal(served.code, 2, served.err);
  assert.ok(served.err.includes("without a config.json"), served.err);
  for (const way of ["-s", "-r"]) {
    for (const [args, at] of commands) {
      const { code, out, err } = await run([...args, way, nobody]);
      assert.equal(code, 2, `${args.join(" ")}: ${err}`);
      assert.ok(err.includes(at) && err.split("\n").length === 2, err);
      assert.equal(out, "", args.join(" "));
    }
  }
  for (const args of [[missing], [missing, "--embedded"], ["a/b", "--log-dir", file]]) {
    const { code, err } = await run(["serve", "--python", "/nowhere/python", ...args]);
    assert.equal(code, 2, err);
    assert.ok(err.includes(args.at(-1) === file ? file : missing), err);
  }
  const waited = await run(["sync", missing, "--watch", "-s", nobody]);
  assert.equal(waited.code, 3);
  assert.ok(waited.err.startsWith(`${missing} is not there yet`), waited.err);
  assert.deepEqual((await Array.fromAsync(Deno.readDir(folder))).length, 2);
  await Deno.remove(folder, { recursive: true });
});
