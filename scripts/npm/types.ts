import ts from "typescript";
import { entries } from "./entries.ts";

/** Writes the declarations of all sources that the entries reach; tells how many files. */
export async function writeTypes(out: string): Promise<number> {
  const program = ts.createProgram(entries.map(({ source }) => source), {
    target: ts.ScriptTarget.ESNext,
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    allowImportingTsExtensions: true,
    declaration: true,
    emitDeclarationOnly: true,
    exactOptionalPropertyTypes: true,
    strict: true,
    types: [],
    rootDir: ".",
    outDir: `${out}/types`,
  });
  const written: Promise<void>[] = [];
  const { diagnostics } = program.emit(undefined, (path, text) => written.push(write(path, text)));
  await Promise.all(written);
  const faults = diagnostics.map(({ file, messageText }) =>
    `${file?.fileName}: ${ts.flattenDiagnosticMessageText(messageText, " ")}`
  );
  if (faults.length > 0) throw new Error(`Types cannot be told:\n${faults.join("\n")}`);
  return written.length;
}

/** Declarations name each other by the endings that Node knows. */
async function write(path: string, text: string): Promise<void> {
  await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
  await Deno.writeTextFile(path, text.replaceAll(/(["'])(\.[^"'\n]*)\.ts\1/g, '"$2.js"'));
}
