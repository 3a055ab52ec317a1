/**
 * Checks that no source file has more than {@linkcode MOST_LINES} lines: such a file has several
 * ideas. Split it by idea, or give it an exception here with the reason.
 *
 * Run as `deno run -A scripts/check_sizes.ts`.
 */
// deno-lint-ignore-file no-console
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import { filesUnder } from "./files.ts";
import { findSizeFaults, MOST_LINES } from "./sizes.ts";

/** Files that may be longer, and why. */
const EXCEPTIONS: Readonly<Record<string, string>> = {
  "tests/real/policy/token_encoder_test.ts":
    "one generator of tokenizers, whose parts name each other, and the one test that it is for",
};

const root = fileURLToPath(new URL("..", import.meta.url));
const folders = ["src", "ffi", "tests", "scripts", "bench", "examples", "python"];
const endings = [".ts", ".py", ".js"];
const found = await Promise.all(
  folders.flatMap((folder) => endings.map((ending) => filesUnder(`${root}${folder}`, ending))),
);
const files = await Promise.all(
  found.flat().map(async (path) => ({
    path: relative(root, path),
    lines: (await Deno.readTextFile(path)).split("\n").length - 1,
  })),
);
const faults = findSizeFaults(files, EXCEPTIONS);
for (const fault of faults) console.error(fault);
console.log(`sizes: ${files.length} files of at most ${MOST_LINES} lines, ${faults.length} faults`);
if (faults.length > 0) Deno.exit(1);
