/** The tokenizer of a tiny checkpoint, in the files of Hugging Face. */
import { byteAlphabet, learnMerges, splitPattern } from "./byte_pairs.ts";
import { corpus } from "./corpus.ts";

/** Size of the vocabulary: 256 bytes, merges, 3 special tokens. */
export const vocabSize = 1024;

const specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] as const;
const firstSpecial = vocabSize - specials.length;

/** Ids of the special tokens. */
export const specialIds = {
  endOfText: firstSpecial,
  imStart: firstSpecial + 1,
  imEnd: firstSpecial + 2,
} as const;

/** ChatML, with the default system message of Qwen2.5's form. */
const chatTemplate = "{%- for message in messages %}" +
  "{%- if loop.first and message['role'] != 'system' %}" +
  "{{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{%- endif %}" +
  "{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}" +
  "{%- endfor %}" +
  "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}";

/** Contents of `tokenizer.json` and `tokenizer_config.json`. */
export function tokenizerFiles(): { tokenizer: unknown; config: unknown } {
  const alphabet = byteAlphabet();
  const merges = learnMerges(corpus, firstSpecial - alphabet.length);
  const tokens = [...alphabet, ...merges.map(([left, right]) => left + right)];
  const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
  const added = specials.map((content, i) => ({
    id: firstSpecial + i,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }));
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false };
  return {
    tokenizer: {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: added,
      normalizer: { type: "NFC" },
      pre_tokenizer: {
        type: "Sequence",
        pretokenizers: [
          { type: "Split", pattern: { Regex: splitPattern }, behavior: "Isolated", invert: false },
          { ...byteLevel, use_regex: false },
        ],
      },
      post_processor: { ...byteLevel, use_regex: false },
      decoder: { ...byteLevel, use_regex: false },
      model: {
        type: "BPE",
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        vocab,
        merges,
      },
    },
    config: {
      tokenizer_class: "Qwen2Tokenizer",
      model_max_length: 2048,
      bos_token: null,
      eos_token: "<|im_end|>",
      pad_token: "<|endoftext|>",
      unk_token: null,
      additional_special_tokens: ["<|im_start|>", "<|im_end|>"],
      added_tokens_decoder: Object.fromEntries(added.map(({ id, ...token }) => [id, token])),
      add_prefix_space: false,
      clean_up_tokenization_spaces: false,
      errors: "replace",
      split_special_tokens: false,
      chat_template: chatTemplate,
    },
  };
}
