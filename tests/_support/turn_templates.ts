/**
 * Chat templates that treat the history in all ways that tests of turns care about, and a tokenizer
 * whose tokens reach over the borders of what was said.
 */
import { LocalTokenizer } from "../../src/policy/local_tokenizer.ts";

const opening = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
const each = (assistant: string) =>
  "{% for m in messages %}<|im_start|>{{ m.role }}\n" +
  `{% if m.role == 'assistant' %}${assistant}{% else %}{{ m.content }}{% endif %}` +
  "<|im_end|>\n{% endfor %}";

/** Templates by what they do with an earlier answer. */
export const turnTemplates = {
  "keeps it": each("{{ m.content }}") + opening,
  "drops its thinking":
    each("{{ m.content.split('</think>')[-1] if not loop.last else m.content }}") +
    opening,
  "drops thinking before the last user": "{% set ns = namespace(last=-1) %}" +
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}" +
    "{% endfor %}" +
    each("{{ m.content if loop.index0 > ns.last else m.content.split('</think>')[-1] }}") + opening,
  "trims it": each("{{ m.content | trim }}") + opening,
  "opens with thoughts that the history lacks": each("{{ m.content }}") +
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n\n</think>\n\n{% endif %}",
  "opens with a thought and drops it": each("{{ m.content.split('</think>')[-1] }}") +
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
  "ends it with another token": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}" +
    "{{ '<|endoftext|>' if m.role == 'assistant' else '<|im_end|>' }}\n{% endfor %}" + opening,
  "has no special tokens": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}" +
    "{% if add_generation_prompt %}assistant: {% endif %}",
  "writes it without an end": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}" +
    "{% endfor %}" + opening,
  "counts messages at the top": "[{{ messages | length }}]" + each("{{ m.content }}") + opening,
  "moves tools to the last user": "{% for m in messages %}<|im_start|>{{ m.role }}\n" +
    "{% if loop.last %}tools: none\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}" + opening,
  "leaves it out":
    "{% for m in messages %}{% if m.role != 'assistant' %}<|im_start|>{{ m.role }}\n" +
    "{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}" + opening,
} as const;

/** Pairs that this tokenizer joins, most urgent first; written as its vocabulary writes bytes. */
const merges = [
  ["Ċ", "Ċ"],
  ["ĊĊ", "Ċ"],
  ["h", "e"],
  ["l", "l"],
  ["he", "ll"],
  ["hell", "o"],
  ["Ġ", "a"],
  ["<", "|"],
  ["a", "s"],
  ["as", "s"],
  [":", "Ġ"],
  ["o", "k"],
  ["Ġ", "hello"],
] as const;

const folder = new URL("../fixtures/policy/byte_level/", import.meta.url);

/** One token a byte, three special tokens, and a dozen longer tokens. */
export async function mergingTokenizer(): Promise<LocalTokenizer> {
  const read = async (name: string) => JSON.parse(await Deno.readTextFile(new URL(name, folder)));
  const tokenizer = await read("tokenizer.json");
  const { model, added_tokens: added } = tokenizer;
  const first = Math.max(...added.map(({ id }: { id: number }) => id)) + 1;
  merges.forEach((pair, index) => model.vocab[pair.join("")] = first + index);
  model.merges = merges.map(([a, b]) => `${a} ${b}`);
  return new LocalTokenizer({
    tokenizer,
    config: await read("tokenizer_config.json"),
    name: "merging",
  });
}

/** Number of ids of {@linkcode mergingTokenizer}. */
export const mergingVocabulary = 259 + merges.length;
