/** The package as its users get it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import config from "../../../deno.json" with { type: "json" };
import { version } from "../../../src/internal/version.ts";

const root = new URL("../../../", import.meta.url).pathname;

async function deno(
  args: readonly string[],
  options: { cwd?: string } = {},
): Promise<{ code: number; out: string; err: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: options.cwd ?? root,
    env: { NO_COLOR: "1" },
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

/** Import of every entry point, as a program of its own. */
async function importAll(): Promise<string> {
  const lines = Object.keys(config.exports).map((key, i) =>
    `import * as m${i} from ${JSON.stringify(key.replace(/^\./, config.name))};`
  );
  const counts = lines.map((_, i) => `Object.keys(m${i}).length`);
  await Deno.mkdir(`${root}.cache`, { recursive: true });
  const file = await Deno.makeTempFile({ dir: `${root}.cache`, suffix: ".ts" });
  await Deno.writeTextFile(
    file,
    `${lines.join("\n")}\nconsole.log(JSON.stringify([${counts.join(", ")}]));\n`,
  );
  return file;
}

Deno.test("importing every entry point needs no permission, asks for none and opens nothing", async () => {
  const file = await importAll();
  const audit = `${file}.jsonl`;
  try {
    const child = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-check", "--no-prompt", "--quiet", "--cached-only", file],
      cwd: root,
      stdin: "null",
      env: { NO_COLOR: "1", DENO_AUDIT_PERMISSIONS: audit },
    }).output();
    const said = new TextDecoder().decode(child.stderr);
    assert.equal(child.code, 0, said);
    const counts: number[] = JSON.parse(new TextDecoder().decode(child.stdout));
    assert.equal(counts.length, Object.keys(config.exports).length);
    assert.ok(counts.every((count) => count > 0), `${counts}`);
    const checks = await Deno.readTextFile(audit).catch(() => "");
    // A check of Deno's own, as it reads the program, names no permission of ours.
    const ours = checks.split("\n").filter((line) => /"(net|env|run|ffi|sys|write)"/.test(line));
    assert.deepEqual(ours, []);
  } finally {
    await Deno.remove(file);
    await Deno.remove(audit).catch(() => {});
  }
});

Deno.test("what would be published is the sources and the documents, and no tests", async () => {
  const { code, out, err } = await deno(["publish", "--dry-run", "--allow-dirty", "--no-check"]);
  assert.equal(code, 0, err);
  const files = [...(out + err).matchAll(/file:\/\/(\S+)/g)].map(([, path]) =>
    path!.slice(root.length)
  );
  const wanted =
    /^(src|ffi)\/.*\.ts$|^src\/dashboard\/page\/\w+\.(html|css|js|svg)$|^docs\/.*\.(md|svg|png)$|^(mod\.ts|deno\.json)$|^[A-Z]+(\.md)?$/;
  assert.deepEqual(files.filter((file) => !wanted.test(file)), []);
  for (const file of ["README.md", "LICENSE", "CHANGELOG.md", "deno.json"]) {
    assert.ok(files.includes(file), `${file} is not published`);
  }
  for (const entry of Object.values(config.exports)) {
    assert.ok(files.includes(entry.slice(2)), `${entry} is exported and not published`);
  }
});

Deno.test("the Python package has the version of deno.json, and the program tells it", async () => {
  const python = await Deno.readTextFile(join(root, "python/pyproject.toml"));
  assert.equal(/^version = "(.*)"$/m.exec(python)?.[1], config.version);
  assert.equal(version, config.version);
});

Deno.test("the changelog has the version of deno.json", async () => {
  const changelog = await Deno.readTextFile(`${root}CHANGELOG.md`);
  assert.match(changelog, new RegExp(`^## ${config.version.replaceAll(".", "\\.")}\\b`, "m"));
});

Deno.test("a project in another folder runs the package with its own permissions only", async () => {
  const project = await Deno.makeTempDir({ prefix: "consumer-" });
  try {
    const source = join(root, "tests/consumer");
    await Deno.copyFile(join(source, "main.ts"), join(project, "main.ts"));
    const settings = JSON.parse(await Deno.readTextFile(join(source, "deno.json")));
    // `links` puts a folder in the place of the package that is named by its jsr: address.
    settings.links = [root];
    await Deno.writeTextFile(join(project, "deno.json"), JSON.stringify(settings));
    const data = join(project, "data");
    await Deno.mkdir(data);
    const { code, out, err } = await deno([
      "run",
      "--no-check",
      "--cached-only",
      "--no-prompt",
      "--quiet",
      "--allow-net=127.0.0.1",
      `--allow-read=${data}`,
      `--allow-write=${data}`,
      "main.ts",
      data,
    ], { cwd: project });
    assert.equal(code, 0, err);
    const { before, after, version } = JSON.parse(out);
    assert.equal(before.length, 8);
    assert.notDeepEqual(after, before);
    assert.equal(version, "step-1");
  } finally {
    await Deno.remove(project, { recursive: true });
  }
});
