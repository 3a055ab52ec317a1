import config from "../../deno.json" with { type: "json" };

/** The command line is a program of Deno. */
const left = ["./cli"];

/** What the package exports: the name of an entry in files, by its sub-path. */
export const entries: readonly { readonly path: string; readonly name: string; source: string }[] =
  Object.entries(config.exports).filter(([path]) => !left.includes(path)).map(([path, source]) => ({
    path,
    name: path === "." ? "mod" : path.slice(2),
    source: source.slice(2),
  }));

/** Packages that only those who use them install. */
export const peers: readonly string[] = ["@ai-sdk/provider", "@langchain/core"];
