import { LimitError, ValidationError } from "../errors.ts";
import { isTooDeep } from "../internal/json.ts";
import type { ReadSettings, RowReader } from "./row_reader.ts";
import { Fields, isRecord } from "./fields.ts";
import { type RolloutRecord, rolloutSchemas, textOfContent } from "./record.ts";
import type { ByteSource } from "./source.ts";

const READ_AT_ONCE = 1 << 20;
const LINE_FEED = 10;
const SPACE = 32;

/** Rows of JSON lines: the places of the lines are in memory (8 bytes each), the lines are not. */
export async function openJsonLines(
  source: ByteSource,
  options: ReadSettings,
): Promise<RowReader> {
  const starts = await findLines(source, options);
  const length = starts.length - 1;
  const first = length === 0 ? null : (await readLines(source, starts, 0, 1))[0]!;
  return {
    form: "json-lines",
    schema: first === null ? "sglang-rl.rollout/2" : schemaOf(first, `${source.name}, row 0`),
    length,
    versionNames: null,
    sizeOf: (start, end) => starts[end]! - starts[start]!,
    async rows(start, end) {
      const lines = await readLines(source, starts, start, end);
      return lines.map((line, i) => toRecord(line, `${source.name}, row ${start + i}`));
    },
  };
}

/** Where each line begins that is not empty, and where the last one ends. */
async function findLines(source: ByteSource, options: ReadSettings): Promise<Float64Array> {
  const { signal, onProgress } = options;
  const lines = new LineIndex(source.name, options);
  for (let at = 0; at < source.size; at += READ_AT_ONCE) {
    signal?.throwIfAborted();
    const part = await source.read(at, Math.min(READ_AT_ONCE, source.size - at));
    lines.push(part, at);
    onProgress?.({ bytes: at + part.length, totalBytes: source.size });
  }
  return lines.end(source.size);
}

/** Notes where lines begin; looks at every byte once. */
class LineIndex {
  readonly #name: string;
  readonly #settings: ReadSettings;
  #starts = new Float64Array(1024);
  #count = 0;
  #lineStart = 0;
  #isBlank = true;

  constructor(name: string, settings: ReadSettings) {
    this.#name = name;
    this.#settings = settings;
  }

  /** Takes the bytes that stand at `at` in the file. */
  push(part: Uint8Array, at: number): void {
    for (let from = 0; from < part.length;) {
      const found = part.indexOf(LINE_FEED, from);
      const end = found < 0 ? part.length : found;
      // Mostly the first byte tells.
      for (let i = from; this.#isBlank && i < end; i++) this.#isBlank = part[i]! <= SPACE;
      this.#checkLength(at + end);
      if (found >= 0) this.#endLine(at + end + 1);
      from = end + 1;
    }
  }

  /** The starts, and the end of the file. */
  end(size: number): Float64Array {
    this.#endLine(size);
    return this.#starts.slice(0, this.#count + 1).fill(size, this.#count);
  }

  #checkLength(end: number): void {
    const { maxLineBytes: max } = this.#settings;
    if (end - this.#lineStart <= max) return;
    throw new LimitError(`${this.#name}: row ${this.#count} is longer than maxLineBytes, ${max}`, {
      limit: "maxLineBytes",
      max,
    });
  }

  #endLine(next: number): void {
    const start = this.#lineStart;
    const isBlank = this.#isBlank;
    this.#lineStart = next;
    this.#isBlank = true;
    if (isBlank) return;
    const { maxRows: max } = this.#settings;
    if (this.#count === max) {
      throw new LimitError(`${this.#name} has more rows than maxRows, ${max}`, {
        limit: "maxRows",
        max,
      });
    }
    // One place more is kept for the end of the file.
    if (this.#count + 1 === this.#starts.length) {
      const larger = new Float64Array(2 * this.#starts.length);
      larger.set(this.#starts);
      this.#starts = larger;
    }
    this.#starts[this.#count++] = start;
  }
}

/** Empty lines between two rows belong to the row before them. */
async function readLines(
  source: ByteSource,
  starts: Float64Array,
  start: number,
  end: number,
): Promise<string[]> {
  if (start === end) return [];
  const from = starts[start]!;
  const bytes = await source.read(from, starts[end]! - from);
  const decoder = new TextDecoder("utf-8", { fatal: true });
  return Array.from({ length: end - start }, (_, i) => {
    const line = bytes.subarray(starts[start + i]! - from, starts[start + i + 1]! - from);
    try {
      return decoder.decode(line);
    } catch (cause) {
      throw new ValidationError(`${source.name}, row ${start + i} is not UTF-8`, { cause });
    }
  });
}

function parse(line: string, where: string): Record<string, unknown> {
  if (isTooDeep(line)) throw new ValidationError(`${where} is nested too deep for a row`);
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    const isCut = !line.trimEnd().endsWith("}");
    throw new ValidationError(
      `${where} is not JSON` +
        (isCut ? ": it was cut, as by a writer that was killed; delete the line" : ""),
      { cause },
    );
  }
  if (isRecord(value)) return value;
  throw new ValidationError(`${where} is no JSON object`);
}

function schemaOf(line: string, where: string) {
  return new Fields(parse(line, where), where).oneOf("schema", rolloutSchemas);
}

function toRecord(line: string, where: string): RolloutRecord {
  const fields = new Fields(parse(line, where), where);
  const isOld = fields.oneOf("schema", rolloutSchemas) === "sglang-rl.rollout/1";
  const dialog = fields.count("dialog");
  const response = fields.message("response");
  const responseIds = fields.ids("response_ids");
  const { length } = responseIds;
  return {
    dialog,
    attempt: fields.count("attempt"),
    group: fields.count("group", isOld ? dialog : undefined),
    member: fields.count("member", isOld ? 0 : undefined),
    environment: fields.count("environment"),
    turn: fields.count("turn"),
    parent: fields.countOrNull("parent"),
    branch: fields.count("branch", isOld ? 0 : undefined),
    messages: fields.messages("messages"),
    response,
    responseText: textOfContent(response.content),
    promptIds: fields.idsOrNull("prompt_ids"),
    responseIds,
    logProbs: fields.logProbsOrNull("log_probs", length),
    tokenVersions: fields.versionsOrNull("token_versions", length),
    versionsExact: fields.flag("versions_exact"),
    weightVersions: fields.spansOrNull("weight_versions"),
    ...fields.routedExperts("routed_experts"),
    server: fields.textOrNull("server"),
    reward: fields.real("reward"),
    done: fields.flag("done"),
    truncated: fields.flag("truncated"),
    stale: fields.flag("stale"),
    finishReason: fields.oneOf("finish_reason", ["stop", "length", "abort"]),
    info: fields.object("info"),
  };
}
