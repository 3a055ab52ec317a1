/** Runs bundled test files in Node or Bun, one after the other: `run.js REPORT FILE…`. */
// deno-lint-ignore-file no-console
import { writeFileSync } from "node:fs";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { NeedsDeno } from "./deno.ts";
import { needsDeno } from "./needs_deno.ts";
import { type Registered, take, type TestContext } from "./registry.ts";

/** A test that takes longer hangs. */
const MOST_MS = 120_000;
/** How long a file that was left open may hold the process. */
const ENDING_MS = 10_000;

interface Outcome {
  readonly file: string;
  readonly name: string;
  readonly how: "passed" | "ignored" | "needs Deno" | "failed";
  readonly why?: unknown;
}

const outcomes: Outcome[] = [];
const [report, ...paths] = process.argv.slice(2);
for (const path of paths) {
  const file = path.replace(/^.*\/tests\//, "tests/").replace(/\.js$/, ".ts");
  try {
    await import(pathToFileURL(path).href);
  } catch (error) {
    take();
    tell({ file, name: "the file is loaded", ...judge("the file is loaded", error) });
    continue;
  }
  const { tests, after } = take();
  for (const test of tests) tell({ file, name: test.name, ...await outcomeOf(test) });
  for (const work of after.reverse()) await work();
}
finish();

async function outcomeOf(test: Registered): Promise<Pick<Outcome, "how" | "why">> {
  if (test.ignore) return { how: "ignored" };
  const context: TestContext = {
    name: test.name,
    async step(name, run) {
      await run({ ...context, name });
      return true;
    },
  };
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`It takes over ${MOST_MS} ms`)), MOST_MS);
  try {
    await Promise.race([test.run(context), late.promise]);
    if (needsDeno.has(test.name)) {
      return { how: "failed", why: "It passes: take it out of tests/_support/node/needs_deno.ts" };
    }
    return { how: "passed" };
  } catch (error) {
    return judge(test.name, error);
  } finally {
    clearTimeout(timer);
  }
}

/** Only a test that is known to need Deno may want something of it, or differ. */
function judge(name: string, why: unknown): Pick<Outcome, "how" | "why"> {
  return { how: needsDeno.has(name) ? "needs Deno" : "failed", why };
}

function tell(outcome: Outcome): void {
  outcomes.push(outcome);
  const { how, name, why } = outcome;
  if (how === "passed") return;
  console.log(`${outcome.file}: ${name} ... ${how}`);
  if (how !== "failed") return;
  console.log(why instanceof NeedsDeno ? `  It needs ${why.message}` : why);
}

function finish(): void {
  const count = (how: Outcome["how"]) => outcomes.filter((outcome) => outcome.how === how).length;
  const failed = count("failed");
  console.log(
    `${process.versions.bun ? "Bun" : "Node"}: ${count("passed")} passed, ${failed} failed, ` +
      `${count("needs Deno")} need Deno, ${count("ignored")} ignored`,
  );
  if (report !== "" && report !== undefined) writeFileSync(report, junit(outcomes));
  process.exitCode = failed > 0 || outcomes.length === 0 ? 1 : 0;
  // What is still open would hold the process: nothing may be.
  setTimeout(() => {
    console.log("Something was left open");
    process.exit(1);
  }, ENDING_MS).unref();
}

function junit(list: readonly Outcome[]): string {
  const text = (value: string) =>
    value.replace(/[<>&"]/g, (sign) => `&#${sign.charCodeAt(0)};`).replace(
      /[^\n -~\u00a0-\ufffd]/g,
      "?",
    );
  const cases = list.map(({ file, name, how, why }) =>
    `<testcase name="${text(name)}" classname="${text(file)}">` +
    (how === "failed"
      ? `<failure message="${text(String(why))}"/>`
      : how === "passed"
      ? ""
      : "<skipped/>") +
    "</testcase>"
  );
  const failures = list.filter(({ how }) => how === "failed").length;
  const head = `tests="${list.length}" failures="${failures}" errors="0"`;
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites ${head}>` +
    `<testsuite name="node" ${head}>\n${cases.join("\n")}\n</testsuite></testsuites>\n`;
}
