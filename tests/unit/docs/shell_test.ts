/** Every shell line of README.md and docs/ as it is written, against embedded servers. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { filesUnder } from "../../../scripts/files.ts";
import { findShellBlocks, type ShellBlock } from "../../../scripts/shell_blocks.ts";
import { EmbeddedServer, makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { readLines } from "../../../src/internal/lines.ts";
import { freePort } from "../../_support/free_port.ts";
import { makeStandIn } from "../../_support/stand_in_sglang.ts";

const root = new URL("../../../", import.meta.url).pathname;

/** A folder with what the documents take for granted: the command, checkpoints, prompts. */
async function makeWorkplace(folder: string): Promise<void> {
  await Deno.mkdir(join(folder, "bin"));
  await writeCommand(join(folder, "bin"));
  await Deno.mkdir(join(folder, "checkpoints"));
  await makeTinyCheckpoint(join(folder, "checkpoints/step-10"), { seed: 0 });
  await makeTinyCheckpoint(join(folder, "checkpoints/step-20"), { seed: 1 });
  await Deno.writeTextFile(join(folder, "prompts.txt"), "Hello\nWorld\n");
}

const program = ["run", "-A", "--quiet", `${root}src/cli/mod.ts`];

/** The command `sglang-rl`, with further arguments at its end. */
async function writeCommand(folder: string, more = ""): Promise<void> {
  const command = `#!/bin/sh\nexec "${Deno.execPath()}" ${program.join(" ")} "$@" ${more}\n`;
  await Deno.writeTextFile(join(folder, "sglang-rl"), command, { mode: 0o755 });
}

/** Starts `serve` with two servers, for a block that steers it; returns the block with its addresses. */
async function beside(
  code: string,
  { folder, stack }: { readonly folder: string; readonly stack: AsyncDisposableStack },
): Promise<{ code: string; path: string }> {
  const place = await Deno.makeTempDir({ dir: folder, prefix: "serve-" });
  const port = freePort();
  const serve = new Deno.Command(Deno.execPath(), {
    args: [
      ...[...program, "serve", join(folder, "checkpoints/step-10"), "-n", "2", "--no-router"],
      ...["--device=cpu", "--json", `--control-port=${port}`],
    ],
    env: await makeStandIn(place),
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const lines = readLines(serve.stdout);
  stack.defer(async () => {
    serve.kill("SIGTERM");
    await serve.status;
    await lines.return(undefined);
  });
  const { servers } = JSON.parse((await lines.next()).value!) as { servers: string[] };
  // Another `serve` of this machine may have the port that the commands look at by themselves.
  await writeCommand(place, `--control http://127.0.0.1:${port}`);
  return { code: code.replaceAll("http://127.0.0.1:30001", servers[1]!), path: `${place}:` };
}

/** Runs a block with ports of its own, and embedded servers where it starts none itself. */
async function runBlock(
  block: ShellBlock,
  folder: string,
): Promise<{ code: number; said: string }> {
  await using stack = new AsyncDisposableStack();
  let code = block.code;
  let path = "";
  if (block.run === "beside serve") ({ code, path } = await beside(code, { folder, stack }));
  for (const port of new Set(code.match(/(?<=:|--port |--control-port )3\d{4}\b/g))) {
    const own = freePort();
    code = code.replaceAll(port, String(own));
    const isStarted = /\bserve\b/.test(code) || block.run === "beside serve";
    if (isStarted) continue;
    const model = join(folder, "checkpoints/step-10");
    stack.use(await EmbeddedServer.start({ model, port: own }));
  }
  const script = block.run === "until Ctrl-C"
    ? `exec ${code}`
    // What the block leaves in the background ends with it.
    : `trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\nset -e\n${code}`;
  const child = new Deno.Command("bash", {
    args: ["-c", script],
    cwd: folder,
    env: { PATH: `${path}${join(folder, "bin")}:${Deno.env.get("PATH")}`, NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    detached: true,
  }).spawn();
  const errors = new Response(child.stderr).text();
  let said = "";
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    said += text;
    if (block.run === "until Ctrl-C") child.kill("SIGINT");
  }
  const { code: exitCode } = await child.status;
  return { code: exitCode, said: `${said}\n${await errors}` };
}

Deno.test("every shell block of the documents ends as written", async (t) => {
  const folder = await Deno.makeTempDir({ prefix: "sglang-rl-docs-" });
  try {
    await makeWorkplace(folder);
    const files = [join(root, "README.md"), ...await filesUnder(join(root, "docs"), ".md")];
    for (const file of files) {
      for (const block of findShellBlocks(await Deno.readTextFile(file))) {
        if (typeof block.run !== "string") continue;
        await t.step(`${file.slice(root.length)}:${block.line}`, async () => {
          const { code, said } = await runBlock(block, folder);
          const expected = block.run === "until Ctrl-C" ? 130 : 0;
          assert.equal(code, expected, `${block.code}\nended with ${code}: ${said}`);
        });
      }
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
