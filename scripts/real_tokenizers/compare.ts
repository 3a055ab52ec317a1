/** Compares the project's ids, renders and masks with Python's, on real tokenizers and templates. */
import { join } from "node:path";
import { LocalTokenizer } from "../../src/policy/mod.ts";
import { encodeWithMask } from "../../src/policy/assistant_mask.ts";
import { renderWithSpans } from "../../src/policy/templates/spans.ts";
import type { Message } from "../../src/policy/chat.ts";
import { type ComparedChat, comparedChats, texts } from "./conversations.ts";
import { realModels, tokenizersHome, tokenizersPython } from "./home.ts";
import { runTransformers } from "./set_up.ts";

/** How many of how many agree, and the first that do not. */
export interface Count {
  agree: number;
  all: number;
  readonly differ: string[];
}

/** Counts of one model by column. */
export type Counts = Readonly<Record<Column, Count>>;

/** Columns of the table. */
export const columns = [
  "ids",
  "ids with BOS and EOS",
  "decoded",
  "render",
  "ids of renders",
  "mask",
  "dialogs",
  "thinking",
  "tools",
  "thinking and tools",
] as const;

/** One of {@linkcode columns}. */
export type Column = (typeof columns)[number];

interface Reference {
  readonly texts: readonly { ids: number[]; special: number[]; decoded: string; cut: string[] }[];
  readonly conversations: readonly {
    text?: string;
    ids?: number[];
    mask?: number[];
    error?: string;
  }[];
}

/** Runs Python once for all models, then compares. */
export async function compareAll(): Promise<Map<string, Counts>> {
  const folder = await Deno.makeTempDir();
  try {
    const input = join(folder, "input.json");
    const output = join(folder, "output.json");
    const chats = comparedChats();
    await Deno.writeTextFile(input, JSON.stringify({ texts, conversations: chats }));
    const program = new URL("reference.py", import.meta.url).pathname;
    const models = join(tokenizersHome(), "models");
    await runTransformers(tokenizersPython(), [program, models, input, output]);
    const references: Record<string, Reference> = JSON.parse(await Deno.readTextFile(output));
    const table = new Map<string, Counts>();
    for (const model of realModels) {
      table.set(model, await compare(join(models, model), references[model]!, chats));
    }
    return table;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function compare(
  folder: string,
  reference: Reference,
  chats: readonly ComparedChat[],
): Promise<Counts> {
  const tokenizer = await LocalTokenizer.fromFolder(folder);
  const config = JSON.parse(await Deno.readTextFile(join(folder, "tokenizer_config.json")));
  const addsBos = config.add_bos_token === true;
  const counts = Object.fromEntries(
    columns.map((column): [Column, Count] => [column, { agree: 0, all: 0, differ: [] }]),
  ) as Record<Column, Count>;
  const note = (column: Column, isSame: boolean, what: string) => {
    const count = counts[column];
    count.all++;
    if (isSame) count.agree++;
    else if (count.differ.length < 3) count.differ.push(what);
  };
  texts.forEach((text, index) => {
    const wanted = reference.texts[index]!;
    const name = JSON.stringify(text.slice(0, 40));
    note("ids", same(tokenizer.encode(text), wanted.ids), name);
    // Transformers 5 drops add_bos_token; servers and this project honour it.
    if (!addsBos) {
      const special = tokenizer.encode(text, { addSpecialTokens: true });
      note("ids with BOS and EOS", same(special, wanted.special), name);
    }
    note("decoded", tokenizer.decode(wanted.ids) === wanted.decoded, name);
    const half = wanted.ids.length >> 1;
    const halves = [wanted.ids.slice(0, half), wanted.ids.slice(half)];
    const cut = halves.map((ids) => tokenizer.decode(ids, { skipSpecialTokens: true }));
    note("decoded", cut.join("|") === wanted.cut.join("|"), `${name} cut in two`);
  });
  for (const [index, chat] of chats.entries()) {
    const wanted = reference.conversations[index]!;
    if (wanted.error !== undefined) continue;
    const { kind } = chat;
    const column = kind === "single" ? "render" : kind === "dialog" ? "dialogs" : kind;
    const name = `${kind} ${index}`;
    const { text, spans } = renderWithSpans(chat.messages as readonly Message[], {
      template: tokenizer.chatTemplate!,
      specialTokens: tokenizer.specialTokens,
      addGenerationPrompt: chat.open,
      variables: { ...chat.variables, tools: chat.tools },
    });
    note(column, text === wanted.text, name);
    if (text !== wanted.text) continue;
    const { ids, mask } = await encodeWithMask(text, spans, { tokenizer });
    note("ids of renders", same(ids, wanted.ids!), name);
    if (wanted.mask !== undefined) note("mask", same(mask, wanted.mask), name);
  }
  return counts;
}

function same(a: ArrayLike<number>, b: ArrayLike<number>): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** The table as Markdown. */
export function asMarkdown(table: ReadonlyMap<string, Counts>): string {
  const head = ["template", ...columns];
  const rows = [...table].map(([model, counts]) => [
    `\`${model}\``,
    ...columns.map((column) => {
      const { agree, all } = counts[column];
      return all === 0 ? "" : `${agree} of ${all}`;
    }),
  ]);
  return [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join(
    "\n",
  );
}

/** What differs, one line each. */
export function differences(table: ReadonlyMap<string, Counts>): string[] {
  return [...table].flatMap(([model, counts]) =>
    columns.flatMap((column) => counts[column].differ.map((what) => `${model}, ${column}: ${what}`))
  );
}
