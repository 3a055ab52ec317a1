/**
 * Writes docs/api.md: every exported name of every entry point, with the first sentence of its
 * documentation.
 *
 * Run as `deno run -A scripts/api_reference.ts [--check]`; `--check` fails where the page is out of
 * date instead of writing it.
 */
// deno-lint-ignore-file no-console
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const page = join(root, "docs/api.md");

interface Declaration {
  readonly kind: string;
  readonly jsDoc?: { readonly doc?: string };
  readonly location: { readonly filename: string };
}

interface DocumentedSymbol {
  readonly name: string;
  readonly declarations: readonly Declaration[];
}

interface DocumentedModule {
  readonly module_doc?: { readonly doc?: string };
  readonly symbols: readonly DocumentedSymbol[];
}

const kinds: Readonly<Record<string, string>> = {
  class: "class",
  function: "function",
  interface: "interface",
  typeAlias: "type",
  variable: "constant",
};

async function run(args: readonly string[], stdin?: string): Promise<string> {
  const command = new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: root,
    stdin: stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1" },
  });
  const child = command.spawn();
  const writing = stdin === undefined ? undefined : writeAll(child.stdin, stdin);
  const { success, stdout, stderr } = await child.output();
  await writing;
  if (!success) throw new Error(`deno ${args[0]} failed: ${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout);
}

async function writeAll(stream: WritableStream<Uint8Array>, text: string): Promise<void> {
  const writer = stream.getWriter();
  await writer.write(new TextEncoder().encode(text));
  await writer.close();
}

/** Plain text up to the end of the first sentence. */
function firstSentence(doc: string | undefined): string {
  const paragraph = (doc ?? "").split("\n\n")[0]!.replaceAll("\n", " ").trim();
  const plain = paragraph.replace(/\{@link(?:code|plain)? ([^}|]+)(?:\|[^}]*)?\}/g, "`$1`");
  const end = /[.:](?= [A-Z`]|$)/.exec(plain);
  return end === null ? plain : plain.slice(0, end.index + 1);
}

async function describe(entry: string, path: string): Promise<string> {
  const { nodes } = JSON.parse(await run(["doc", "--json", path])) as {
    nodes: Readonly<Record<string, DocumentedModule>>;
  };
  const module = Object.values(nodes)[0]!;
  const rows = module.symbols.toSorted((a, b) => a.name.localeCompare(b.name)).map((symbol) => {
    const { kind, jsDoc } = symbol.declarations[0]!;
    const text = firstSentence(jsDoc?.doc).replaceAll("|", "\\|");
    return `| \`${symbol.name}\` | ${kinds[kind] ?? kind} | ${text} |`;
  });
  const name = entry === "." ? "@sglang-rl/sglang-rl" : `@sglang-rl/sglang-rl${entry.slice(1)}`;
  return [
    `## \`${name}\``,
    "",
    (module.module_doc?.doc ?? "").split("\n\n")[0]!.trim(),
    "",
    "| name | kind | what it is |",
    "| --- | --- | --- |",
    ...rows,
    "",
  ].join("\n");
}

const { exports } = JSON.parse(await Deno.readTextFile(join(root, "deno.json"))) as {
  exports: Record<string, string>;
};
const modules = await Promise.all(
  Object.entries(exports).map(([entry, path]) => describe(entry, path)),
);
const text = [
  "# API reference",
  "",
  "Every exported name by entry point, made from the sources by `deno task docs:api`. Each name's",
  "full documentation, with parameters, defaults, errors and examples, is printed by",
  "`deno doc mod.ts NAME`, and by editors.",
  "",
  ...modules,
].join("\n");
const formatted = await run(["fmt", "--ext", "md", "-"], text);

if (!Deno.args.includes("--check")) {
  await Deno.writeTextFile(page, formatted);
} else if (await Deno.readTextFile(page).catch(() => "") !== formatted) {
  console.error("docs/api.md is out of date: run `deno task docs:api`");
  Deno.exitCode = 1;
}
