/** The completion of both shells, in those shells. */
import assert from "node:assert/strict";
import { commandNames, run } from "./_support.ts";

/** Lines as somebody types them, and what the command is called with after the tab. */
const typed: readonly (readonly [line: string, called: string])[] = [
  ["sglang-rl gen\t", "generate"],
  ["sglang-rl sync --dis\t", "sync --disk-folder"],
  ["sglang-rl sync --transport g\t", "sync --transport gloo"],
  ["sglang-rl help gen\t", "help generate"],
  ["sglang-rl completion ba\t", "completion bash"],
  ["sglang-rl sync one-f\t", "sync one-file"],
  ["sglang-rl serve --pyt\t/bin/python", "serve --python /bin/python"],
];

/** Types lines into zsh in a terminal; prints what its command was called with. */
const terminal = `
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = "dumb"
    os.execvp("zsh", ["zsh", "-f", "-i"])
said = b""
def read(until):
    global said
    while until not in said:
        said += os.read(fd, 65536)
    said = said.partition(until)[2]
def type(line):
    os.write(fd, line.encode() + b"\\n")
type("unsetopt zle_bracketed_paste; setopt no_prompt_sp no_list_beep; PROMPT='@'\\"READY\\"'@ '")
read(b"@READY@")
for line in sys.stdin.read().split("\\n"):
    type(line)
    read(b"@READY@")
os.close(fd)
os.waitpid(pid, 0)
`;

async function zsh(folder: string, loading: readonly string[]): Promise<string[]> {
  const child = new Deno.Command("python3", {
    args: ["-c", terminal],
    cwd: folder,
    stdin: "piped",
    stdout: "null",
    stderr: "inherit",
  }).spawn();
  const input = child.stdin.getWriter();
  const lines = [
    ...loading,
    'sglang-rl() { print -r -- "$*" >> called }',
    ...typed.map(([line]) => line),
  ];
  await input.write(new TextEncoder().encode(lines.join("\n")));
  await input.close();
  const { code } = await child.status;
  assert.equal(code, 0);
  return (await Deno.readTextFile(`${folder}/called`)).trimEnd().split("\n");
}

async function hasZsh(): Promise<boolean> {
  try {
    return (await new Deno.Command("zsh", { args: ["-fc", ":"] }).output()).success;
  } catch {
    return false;
  }
}

async function withFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "sglang-rl-completion-" });
  try {
    await Deno.writeTextFile(`${folder}/one-file`, "");
    await work(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("bash completes commands, options, their values and files", async () => {
  await withFolder(async (folder) => {
    const script = (await run(["completion", "bash"])).out;
    const complete = async (line: string) => {
      const words = line.split(" ").map((word) => `'${word}'`);
      const { stdout } = await new Deno.Command("bash", {
        args: [
          "-c",
          `${script}\nCOMP_WORDS=(${words.join(" ")}); COMP_CWORD=${words.length - 1}\n` +
          `_sglang_rl; printf '%s\\n' "\${COMPREPLY[@]}"`,
        ],
        cwd: folder,
      }).output();
      return new TextDecoder().decode(stdout).trim().split("\n");
    };
    for (const [line, called] of typed) {
      const [before = ""] = line.split("\t");
      const last = called.split(" ").find((word) => word.startsWith(before.split(" ").at(-1)!));
      assert.deepEqual(await complete(before), [last]);
    }
    assert.ok(commandNames().every((name) => script.includes(name)));
    assert.deepEqual(await complete("sglang-rl help "), commandNames());
    // Where a value has a list, files are none.
    assert.ok((await complete("sglang-rl sync one")).includes("one-file"));
    assert.ok(!(await complete("sglang-rl sync --transport ")).includes("one-file"));
  });
});

for (const way of ["sourced", "as a file of fpath"] as const) {
  Deno.test({
    name: `zsh completes the same from the first tab on, ${way}`,
    ignore: !await hasZsh(),
    async fn() {
      await withFolder(async (folder) => {
        const script = (await run(["completion", "zsh"])).out;
        await Deno.mkdir(`${folder}/functions`);
        await Deno.writeTextFile(`${folder}/functions/_sglang-rl`, script);
        const load = "autoload -Uz compinit; compinit -u -D";
        const called = await zsh(
          folder,
          way === "sourced"
            ? [load, "source functions/_sglang-rl"]
            : ["fpath=($PWD/functions $fpath)", load],
        );
        assert.deepEqual(called, typed.map(([, wanted]) => wanted));
      });
    },
  });
}

Deno.test("another shell is refused by name", async () => {
  const { code, err } = await run(["completion", "fish"]);
  assert.equal(code, 2);
  assert.match(err, /fish.*bash, zsh/);
});
