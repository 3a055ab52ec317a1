/**
 * Tells how much of each folder the unit tests run, in lines, and fails when `src`, or a folder of
 * it, is below its floor. `ffi` is told too, without a floor: most of it runs only on a machine with a GPU.
 *
 * `deno task coverage` runs the tests first; `deno run -A scripts/coverage.ts FOLDER` reads what a
 * run with `--coverage=FOLDER` wrote.
 */
// deno-lint-ignore-file no-console
import { relative } from "node:path";
import { fileURLToPath } from "node:url";

/** Least share of lines of `src` and of each of its folders, in percent. */
const FLOOR = 90;

interface Lines {
  found: number;
  hit: number;
}

const root = fileURLToPath(new URL("..", import.meta.url));
const [folder = await runTests()] = Deno.args;
const report = await new Deno.Command(Deno.execPath(), {
  args: ["coverage", "--lcov", folder],
  cwd: root,
  env: { NO_COLOR: "1" },
  stderr: "inherit",
}).output();
const folders = linesOf(new TextDecoder().decode(report.stdout));
for (const [name, lines] of [...folders].sort()) console.log(line(name, lines));
const total = sumOf("src");
console.log(line("all of ffi", sumOf("ffi")));
console.log(line("all of src", total));
const low = [...folders].filter(([name, lines]) =>
  name.startsWith("src/") && percent(lines) < FLOOR
);
for (const [name, lines] of low) {
  console.error(`coverage: ${name} is at ${percent(lines).toFixed(1)} %, the floor is ${FLOOR} %`);
}
if (total.found === 0 || percent(total) < FLOOR) {
  console.error(`coverage: src is below the floor of ${FLOOR} %`);
  Deno.exit(1);
}
if (low.length > 0) Deno.exit(1);

function sumOf(top: string): Lines {
  return [...folders].filter(([name]) => name.startsWith(`${top}/`)).reduce<Lines>(
    (sum, [, { found, hit }]) => ({ found: sum.found + found, hit: sum.hit + hit }),
    { found: 0, hit: 0 },
  );
}

async function runTests(): Promise<string> {
  const into = await Deno.makeTempDir({ prefix: "coverage-" });
  const { success } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "test", "--quiet", `--coverage=${into}`],
    cwd: root,
  }).spawn().status;
  if (!success) Deno.exit(1);
  return into;
}

/** Lines by folder; `src/<part>` and `ffi/<part>` are folders. */
function linesOf(lcov: string): Map<string, Lines> {
  const found = new Map<string, Lines>();
  let current: Lines | undefined;
  for (const text of lcov.split("\n")) {
    const [key, value] = [text.slice(0, 2), text.slice(3)];
    if (key === "SF") {
      const [top, part] = relative(root, value).split("/");
      const isOurs = top === "src" || top === "ffi";
      const name = isOurs ? `${top}/${part!.endsWith(".ts") ? "" : part}` : undefined;
      current = name === undefined ? undefined : found.get(name) ?? { found: 0, hit: 0 };
      if (name !== undefined && current !== undefined) found.set(name, current);
    } else if (current !== undefined && key === "LF") current.found += Number(value);
    else if (current !== undefined && key === "LH") current.hit += Number(value);
  }
  return found;
}

function percent({ found, hit }: Lines): number {
  return found === 0 ? 100 : 100 * hit / found;
}

function line(name: string, lines: Lines): string {
  return `${name.padEnd(18)} ${
    percent(lines).toFixed(1).padStart(5)
  } %  ${lines.hit}/${lines.found}`;
}
