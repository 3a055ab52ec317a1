/** Compares renders and masks of all of `trl`'s chat templates with Python's. */
import { join } from "node:path";
import type { Message } from "../../src/policy/chat.ts";
import { renderChat, type RenderOptions } from "../../src/policy/templates/render.ts";
import { renderWithSpans, type Span } from "../../src/policy/templates/spans.ts";
import { tokenizersPython, trlTemplates } from "./home.ts";
import { runTransformers } from "./set_up.ts";
import { oddChats } from "./odd_chats.ts";
import { templateChats } from "./template_chats.ts";

/** All conversations. */
const chats = [...templateChats, ...oddChats];

/** What became of one conversation with one template. */
export interface Compared {
  /** Name of the template. */
  readonly template: string;
  /** Number of the conversation. */
  readonly chat: number;
  /** What the render is beside Python's. */
  readonly render: string;
  /** What the mask is beside that of the template's own blocks, or `null` where there are none. */
  readonly mask: string | null;
  /** The same beside the blocks of TRL's training template, where it writes the same text. */
  readonly trainingMask: string | null;
  /** What differs, where no reason is known. */
  readonly details: string;
}

type Reference =
  & { readonly read?: string | null }
  & (
    | { readonly error: string }
    | { readonly text: string; readonly spans?: readonly (readonly [number, number])[] }
  );
type Marked = { readonly text: string; readonly spans: readonly (readonly [number, number])[] };

const bosToken = "<s>";
const eosToken = "</s>";

/** Tokens that end a turn, as `generation_config.json` names them, where a template alone cannot tell. */
const endTokens: Readonly<Record<string, readonly string[]>> = {
  glm4moe: ["<|endoftext|>", "<|user|>", "<|observation|>"],
};

/** What differs for a reason. */
const reasons = {
  parts: "content parts: a template that loops over none gets their text, as on SGLang's servers",
  read: "arguments of calls as JSON: they are read first, as on SGLang's servers",
  arguments: "arguments of calls: a template that wants JSON gets it, where Python fails",
  nothing: "refused: the template shows nothing of what the assistant wrote (it wants parts)",
  opened: "TRL also marks what the prompt holds already: nobody samples it",
  behind: "TRL also marks what stands behind the token that ends the turn: nobody samples it",
  both: "TRL also marks what stands before and behind what is sampled",
} as const;

const unknown = "another, for no known reason";

/** Compares them all. */
export async function compareTemplates(): Promise<Compared[]> {
  const folder = await Deno.makeTempDir();
  try {
    const input = join(folder, "input.json");
    const output = join(folder, "output.json");
    const tokens = { bos_token: bosToken, eos_token: eosToken };
    await Deno.writeTextFile(input, JSON.stringify({ conversations: chats, tokens }));
    const program = new URL("templates.py", import.meta.url).pathname;
    const templates = await trlTemplates();
    await runTransformers(tokenizersPython(), [program, templates, input, output]);
    const all: Record<string, Reference[]> = JSON.parse(await Deno.readTextFile(output));
    const compared: Compared[] = [];
    for (const [name, references] of Object.entries(all)) {
      const source = await Deno.readTextFile(join(templates, `${name}.jinja`));
      const training = all[`${name}_training`];
      references.forEach((own, chat) => {
        const ends = endTokens[name.replace(/_training$/, "")];
        const one = compare(source, chat, { own, training: training?.[chat], ends });
        compared.push({ template: name, chat, ...one });
      });
    }
    return compared;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function compare(
  template: string,
  chat: number,
  { own, training, ends }: {
    own: Reference;
    training: Reference | undefined;
    ends: readonly string[] | undefined;
  },
): Omit<Compared, "template" | "chat"> {
  const { messages, tools, variables: { continue_final_message: goesOn, ...variables }, open } =
    chats[chat]!;
  const options: RenderOptions = {
    template,
    specialTokens: { bosToken, eosToken, padToken: null, unkToken: null, endTokens: ends },
    addGenerationPrompt: open,
    continueFinalMessage: goesOn as boolean | string | undefined,
    variables: { ...variables, tools },
  };
  const given = messages as unknown as readonly Message[];
  const rendered = attempt(() => renderChat(given, options));
  const render = comparedRender(rendered, own, chat);
  const details = render === unknown ? `${said(rendered)}\n---\n${said(own)}` : "";
  if (typeof rendered !== "string" || !("text" in own) || own.text !== rendered) {
    return { render, mask: null, trainingMask: null, details };
  }
  const marked = (one: Reference | undefined): one is Marked =>
    one !== undefined && "text" in one && one.spans !== undefined && one.text === rendered;
  const found = attempt(() => renderWithSpans(given, options).spans);
  const masks = [own, training].map((one) => {
    if (!marked(one)) return { what: null, details: "" };
    if (found instanceof Error) {
      const isKnown = found.message.includes("shows nothing of what the assistant wrote");
      return { what: isKnown ? reasons.nothing : unknown, details: isKnown ? "" : found.message };
    }
    const wanted = one.spans.map(([start, end]) => ({ start, end }));
    const what = comparedMask(rendered, found, wanted, { messages: given, options });
    const shown = `${show(rendered, found)}\n---\n${show(rendered, wanted)}`;
    return { what, details: what === unknown ? shown : "" };
  });
  return {
    render,
    mask: masks[0]!.what,
    trainingMask: masks[1]!.what,
    details: details + masks.map((one) => one.details).join(""),
  };
}

function attempt<T>(run: () => T): T | Error {
  try {
    return run();
  } catch (error) {
    if (error instanceof Error) return error;
    throw error;
  }
}

function said(value: string | Error | Reference): string {
  if (typeof value === "string") return value;
  if (value instanceof Error) return value.message;
  return "text" in value ? value.text : value.error;
}

function comparedRender(ours: string | Error, python: Reference, chat: number): string {
  if (ours instanceof Error) return "error" in python ? "refused by both" : unknown;
  if ("text" in python && python.text === ours) return "the same";
  const { messages } = chats[chat]!;
  if (python.read === ours) {
    return messages.some(({ content }) => Array.isArray(content)) ? reasons.parts : reasons.read;
  }
  const isOfCalls = "error" in python && /concatenate str \(not "dict"\)/.test(python.error);
  return isOfCalls ? reasons.arguments : unknown;
}

function comparedMask(
  text: string,
  ours: readonly Span[],
  python: readonly Span[],
  { messages, options }: { messages: readonly Message[]; options: RenderOptions },
): string {
  const own = marks(text, ours);
  const other = marks(text, python);
  let opened = false;
  let behind = false;
  for (let at = 0; at < text.length;) {
    if (own[at] === other[at]) {
      at++;
      continue;
    }
    if (own[at] === 1) return unknown;
    let end = at;
    while (end < text.length && other[end] === 1 && own[end] === 0) end++;
    const piece = text.slice(at, end);
    if (at > 0 && own[at - 1] === 1 && piece.replace(eosToken, "").trim() === "") behind = true;
    else if (isOfPrompt(piece, { messages, options })) opened = true;
    else return unknown;
    at = end;
  }
  return opened && behind
    ? reasons.both
    : opened
    ? reasons.opened
    : behind
    ? reasons.behind
    : "the same";
}

/** Whether a piece is what a prompt ends with, or how it begins what it adds. */
function isOfPrompt(
  piece: string,
  { messages, options }: { messages: readonly Message[]; options: RenderOptions },
): boolean {
  return messages.some(({ role }, index) => {
    if (role !== "assistant") return false;
    // Some templates refuse a conversation without a user.
    const before = messages.slice(0, index);
    const asked = [...before, { role: "user", content: "x" }];
    const [open, closed] = [true, false].map((addGenerationPrompt) => {
      const render = (some: readonly Message[]) =>
        attempt(() => renderChat(some, { ...options, addGenerationPrompt }));
      const alone = index === 0 ? null : render(before);
      return typeof alone === "string" ? alone : render(asked);
    });
    if (typeof open !== "string" || typeof closed !== "string") return false;
    let same = 0;
    while (same < closed.length && closed[same] === open[same]) same++;
    // An earlier turn may be written without the thoughts that its prompt opened.
    return open.endsWith(piece) || open.slice(same).startsWith(piece);
  });
}

function marks(text: string, spans: readonly Span[]): Uint8Array {
  const mask = new Uint8Array(text.length);
  for (const { start, end } of spans) mask.fill(1, start, end);
  return mask;
}

/** A text with its marked stretches in brackets. */
function show(text: string, spans: readonly Span[]): string {
  const mask = marks(text, spans);
  let result = "";
  for (let at = 0; at <= text.length; at++) {
    const was = mask[at - 1] ?? 0;
    const is = mask[at] ?? 0;
    if (was !== is) result += is === 1 ? "⟦" : "⟧";
    result += text[at] ?? "";
  }
  return result;
}

/** The counts as Markdown. */
export function countsOf(compared: readonly Compared[]): string {
  const kinds = [
    { title: "render", of: (one: Compared) => one.render },
    { title: "mask, beside the template's own blocks", of: (one: Compared) => one.mask },
    { title: "mask, beside TRL's training template", of: (one: Compared) => one.trainingMask },
  ];
  const order = ["the same", "refused by both", ...Object.values(reasons), unknown];
  const rows = kinds.flatMap(({ title, of }) =>
    order.map((what) => {
      const count = compared.filter((one) => of(one) === what).length;
      return { title, what, count };
    }).filter(({ count }) => count > 0)
  );
  return [
    "| what | is | how often |",
    "| --- | --- | --- |",
    ...rows.map(({ title, what, count }) => `| ${title} | ${what} | ${count} |`),
  ].join("\n");
}
