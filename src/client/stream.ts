import { HttpError, ProtocolError } from "../errors.ts";
import { parseJson } from "../internal/json.ts";
import { serverMessageOf } from "./classify.ts";
import { toIds, toLogProbs } from "./columns.ts";
import {
  checkAnswer,
  type GenerationContext,
  parseGeneration,
  throwIfRefused,
} from "./generation.ts";
import type { StreamMode } from "./capabilities.ts";
import type { GenerateAnswer } from "./schema/generate.ts";
import type { GenerationDelta } from "./types.ts";

/** Lists of `meta_info` with one element for each output token. */
const OUTPUT_COLUMNS = [
  "output_token_logprobs",
  "output_top_logprobs",
  "output_token_ids_logprobs",
] as const;

/** Turns the events of one stream into steps, whatever the server's mode. */
export class StreamAssembler {
  readonly #mode: StreamMode;
  readonly #context: Omit<GenerationContext, "latencyMs">;
  #text = "";
  #hasText = false;
  #givenLength = 0;
  readonly #ids: number[] = [];
  readonly #columns = new Map<string, unknown[]>();
  #promptIds: unknown;

  constructor(mode: StreamMode, context: Omit<GenerationContext, "latencyMs">) {
    this.#mode = mode;
    this.#context = context;
  }

  /** Takes one event in; the step has `final` set when it was the last. */
  add(event: string, latencyMs: number): GenerationDelta {
    const parsed = this.#parse(event);
    const answer = checkAnswer(parsed);
    const { meta_info: meta } = answer;
    this.#promptIds ??= answer.prompt_token_ids;
    const text = this.#takeText(answer);
    const ids = this.#takeIds(answer);
    const newColumns = this.#takeColumns(meta, ids.length);
    const delta = {
      text,
      ids,
      logProbs: newColumns === null
        ? null
        : toLogProbs(newColumns, { name: OUTPUT_COLUMNS[0], ids }),
    };
    if (meta.finish_reason === null || meta.finish_reason === undefined) {
      return { ...delta, final: null };
    }
    const final = parseGeneration(this.#whole(answer), { ...this.#context, latencyMs });
    throwIfRefused(final);
    return { ...delta, final };
  }

  #parse(event: string): unknown {
    const parsed = parseJson(event, `The stream of ${this.#context.server}`);
    const error = (parsed as { error?: unknown } | null)?.error;
    if (error === undefined || error === null) return parsed;
    const serverMessage = serverMessageOf(event);
    const code = typeof error === "object" ? (error as { code?: unknown }).code : undefined;
    throw new HttpError(`POST /generate at ${this.#context.server} failed: ${serverMessage}`, {
      status: typeof code === "number" ? code : 400,
      endpoint: "POST /generate",
      serverMessage,
    });
  }

  #takeText(answer: GenerateAnswer): string {
    if (typeof answer.text !== "string") return "";
    this.#hasText = true;
    if (this.#mode === "incremental") {
      this.#text += answer.text;
      return answer.text;
    }
    this.#text = answer.text;
    // The last text may be shorter than what was given out: a stop string is cut off at the end.
    const fresh = answer.text.slice(this.#givenLength);
    this.#givenLength += fresh.length;
    return fresh;
  }

  #takeIds(answer: GenerateAnswer): Int32Array {
    const received = toIds(answer.output_ids ?? [], "output_ids");
    const fresh = this.#mode === "cumulative" ? received.subarray(this.#ids.length) : received;
    const total = answer.meta_info.completion_tokens;
    const isAbort = answer.meta_info.finish_reason?.type === "abort";
    const wouldHave = this.#ids.length + fresh.length;
    if (isAbort && typeof total === "number" && wouldHave > total) {
      // An incremental stream that was aborted while queued repeats its last id.
      return new Int32Array(0);
    }
    if (typeof total === "number" && !isAbort && wouldHave !== total) {
      throw new ProtocolError(
        `The stream was read as ${this.#mode}, but has ${wouldHave} output ids where the server ` +
          `counts ${total}`,
      );
    }
    for (const id of fresh) this.#ids.push(id);
    return fresh;
  }

  #takeColumns(meta: GenerateAnswer["meta_info"], freshIds: number): unknown[] | null {
    let freshLogProbs: unknown[] | null = null;
    for (const name of OUTPUT_COLUMNS) {
      const received: unknown = meta[name];
      if (!Array.isArray(received)) continue;
      const column = this.#columns.get(name) ?? [];
      this.#columns.set(name, column);
      const fresh = this.#mode === "incremental" ? received : received.slice(column.length);
      const taken = freshIds === 0 ? [] : fresh;
      for (const item of taken) column.push(item);
      if (name === OUTPUT_COLUMNS[0]) freshLogProbs = taken;
    }
    return freshLogProbs;
  }

  /** The last event as if it had held everything. */
  #whole(last: GenerateAnswer): Record<string, unknown> {
    return {
      ...last,
      text: this.#hasText ? this.#text : last.text,
      output_ids: this.#ids,
      prompt_token_ids: this.#promptIds,
      meta_info: { ...last.meta_info, ...Object.fromEntries(this.#columns) },
    };
  }
}
