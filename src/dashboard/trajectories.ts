import { ValidationError } from "../errors.ts";
import { throwIfAborted } from "../internal/deadline.ts";
import { firstWhere } from "../internal/first_where.ts";
import type { RolloutEntry, RolloutFile, RolloutRecord } from "../rollout_file/mod.ts";
import { beginningOf, type RowFilter as NumberFilter, RowIndex } from "./row_index.ts";

/** Which rows are wanted; what is left out does not matter. */
export interface RowFilter extends NumberFilter {
  /** Text that the answer or a message has; case does not matter. */
  readonly text?: string | undefined;
}

/** What an answer to the page holds at most; the rest is asked for by a further window. */
export const windows = { rows: 500, members: 50, turns: 500, messages: 100, tokens: 4000 } as const;

/** Characters of a text that come unasked. */
const LONGEST_TEXT = 20_000;
const LONGEST_MEMBER_TEXT = 4000;

/** Part of a longer list. */
export interface Part<T> {
  readonly total: number;
  readonly from: number;
  readonly items: readonly T[];
}

/** The beginning of a text, and how long it is. */
interface TextPart {
  readonly text: string;
  readonly length: number;
}

/** A file of rollouts with an index, in the windows that the page asks for. */
export class Trajectories implements AsyncDisposable {
  readonly #file: RolloutFile;
  readonly #index: RowIndex;
  readonly name: string;
  #last: { readonly key: string; readonly rows: Int32Array } | undefined;
  #lastRow: { readonly row: number; readonly record: RolloutRecord } | undefined;

  private constructor(file: RolloutFile, index: RowIndex, name: string) {
    this.#file = file;
    this.#index = index;
    this.name = name;
  }

  /** Reads a file once from its beginning to its end; the file belongs to the result. */
  static async open(
    file: RolloutFile,
    name: string,
    options: Parameters<typeof RowIndex.of>[1] = {},
  ): Promise<Trajectories> {
    return new Trajectories(file, await RowIndex.of(file, options), name);
  }

  /** Rows that cannot be read. */
  get damaged(): number {
    return this.#index.damaged.count;
  }

  /** What the file is. */
  describe() {
    return {
      name: this.name,
      form: this.#file.form,
      schema: this.#file.schema,
      ...this.#index.totals,
      damaged: this.#index.damaged,
    };
  }

  /** Numbers of the rows that a filter lets through. */
  async filter(
    filter: RowFilter,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<Int32Array> {
    const key = JSON.stringify(filter);
    if (this.#last?.key === key) return this.#last.rows;
    const { text, ...numbers } = filter;
    let rows = this.#index.filter(numbers);
    throwIfAborted(options.signal, "filter");
    if (text !== undefined && text !== "") rows = await this.#byText(rows, text, options.signal);
    this.#last = { key, rows };
    return rows;
  }

  /** One window of the list. */
  async window(rows: Int32Array, from: number, count: number) {
    const wanted = rows.subarray(from, from + Math.min(count, windows.rows));
    const unread = wanted.filter((row) => this.#index.beginningOf(row) === undefined);
    const texts = new Map<number, { beginning: string } | { damage: string }>();
    for await (const { row, record, damage } of this.#read(unread)) {
      texts.set(
        row,
        damage === undefined ? { beginning: beginningOf(record) } : { damage: damage.message },
      );
    }
    return Array.from(wanted, (row) => {
      const text = texts.get(row) ?? { beginning: this.#index.beginningOf(row)! };
      if ("damage" in text) return { row, ...text };
      const numbers = this.#index.numbersOf(row);
      return { ...numbers, reward: shown(numbers.reward), ...text };
    });
  }

  /** Where a row stands among some rows; -1 when it is not there. */
  placeOf(row: number, rows: Int32Array): number {
    this.requireRow(row);
    const place = firstWhere(rows.length, (at) => rows[at]! >= row);
    return rows[place] === row ? place : -1;
  }

  /** What one row is, without its tokens and with the beginnings of its texts. */
  async row(row: number) {
    const record = await this.#record(row);
    const { promptIds, responseIds, logProbs, tokenVersions, routedExperts, ...facts } = record;
    const { messages: _m, response: _r, responseText: _t, weightVersions: _w, info, ...rest } =
      facts;
    const { reward: dialogReward, ...outcome } = this.#index.outcomeOf(row);
    const count = this.#messageCount(record);
    return {
      ...rest,
      row,
      reward: shown(record.reward),
      dialogReward: dialogReward === null ? null : shown(dialogReward),
      ...outcome,
      promptTokens: promptIds?.length ?? null,
      tokens: responseIds.length,
      hasLogProbs: logProbs !== null,
      hasMessages: record.messages !== null,
      hasVersions: tokenVersions !== null,
      routedExperts: routedExperts == null
        ? null
        : { tokens: routedExperts.tokens, perToken: routedExperts.perToken },
      messages: await this.messages(row, Math.max(0, count - windows.messages)),
      turns: this.turns(row, 0),
      info: partOf(JSON.stringify(info, null, 2), LONGEST_TEXT),
    };
  }

  /** Some messages of a row with the beginnings of their texts; the last one is the answer. */
  async messages(row: number, from: number, count: number = windows.messages) {
    const record = await this.#record(row);
    const total = this.#messageCount(record);
    const end = Math.min(total, from + Math.min(count, windows.messages));
    const items = Array.from({ length: Math.max(0, end - from) }, (_, i) => {
      const { role, text, more } = this.#messageOf(record, from + i);
      return { role, ...partOf(text, LONGEST_TEXT), more: partOf(more, LONGEST_TEXT) };
    });
    return { total, from, items };
  }

  /** A text of a row in full: its `info`, or a message with what it has beside its text. */
  async text(row: number, part: "info" | number): Promise<{ text: string; more: string }> {
    const record = await this.#record(row);
    if (part === "info") return { text: JSON.stringify(record.info, null, 2), more: "" };
    if (part >= this.#messageCount(record)) {
      throw new ValidationError(`Row ${row} has no message ${part}`);
    }
    const { text, more } = this.#messageOf(record, part);
    return { text, more };
  }

  /** Some tokens of a row: those of its prompt, which the loss leaves out, then the sampled ones. */
  async tokens(row: number, from: number, count: number = windows.tokens) {
    const { promptIds, responseIds, logProbs, tokenVersions, weightVersions } = await this
      .#record(row);
    const before = promptIds?.length ?? 0;
    const total = before + responseIds.length;
    const end = Math.min(total, from + Math.min(count, windows.tokens));
    const weights = versionsAt(weightVersions ?? [], from - before, end - before);
    const items = Array.from({ length: Math.max(0, end - from) }, (_, i) => {
      const at = from + i;
      if (at < before) return { id: promptIds![at]!, mask: 0 as const };
      const own = at - before;
      return {
        id: responseIds[own]!,
        mask: 1 as const,
        logProb: logProbs === null ? null : shown(logProbs[own]!),
        version: tokenVersions?.[own] ?? null,
        weights: weights[i] ?? null,
      };
    });
    return { total, from, promptTokens: before, items };
  }

  /** The turns of the dialog of a row, as the tree of its branches needs them. */
  turns(row: number, from: number, count: number = windows.turns) {
    this.requireRow(row);
    return partOfList(this.#index.turnsOf(row), from, Math.min(count, windows.turns));
  }

  /** The dialogs of a group side by side: their rewards and their last answers. */
  async group(group: number, from: number, count: number = windows.members) {
    const members = this.#index.membersOf(group);
    const part = partOfList(members, from, Math.min(count, windows.members));
    const byRow = Int32Array.from(part.items, ({ row }) => row).sort();
    const texts = new Map<number, TextPart & { readonly finish: string }>();
    for await (const { row, record, damage } of this.#read(byRow)) {
      // It could be read when the file was opened.
      if (damage !== undefined) throw damage;
      const { finishReason: finish } = record;
      texts.set(row, { ...partOf(record.responseText, LONGEST_MEMBER_TEXT), finish });
    }
    return {
      ...part,
      items: part.items.map((member) => {
        const { reward, ...outcome } = this.#index.outcomeOf(member.row);
        return {
          ...member,
          reward: reward === null ? null : shown(reward),
          ...outcome,
          ...texts.get(member.row)!,
        };
      }),
    };
  }

  /** Rows as JSON lines, some at a time, as the file has them; what cannot be read is left out. */
  async *jsonLines(
    rows: Int32Array,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): AsyncGenerator<string> {
    const readable = rows.filter((row) => !this.#index.isDamaged(row));
    for (const { start, end } of stretchesOf(readable)) {
      for await (const lines of this.#file.jsonLines(start, end)) {
        throwIfAborted(options.signal, "export");
        yield lines;
      }
    }
  }

  /** Closes the file. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file[Symbol.asyncDispose]();
  }

  /** Refuses the number of no row. */
  requireRow(row: number): void {
    if (Number.isInteger(row) && row >= 0 && row < this.#index.length) return;
    throw new ValidationError(`There is no row ${row}: the file has ${this.#index.length}`);
  }

  /** One row; it is asked for several windows one after the other, so the last one is held. */
  async #record(row: number): Promise<RolloutRecord> {
    this.requireRow(row);
    if (this.#lastRow?.row === row) return this.#lastRow.record;
    const [record] = await this.#file.rows(row, row + 1);
    this.#lastRow = { row, record: record! };
    return record!;
  }

  async #byText(
    rows: Int32Array,
    text: string,
    signal: AbortSignal | undefined,
  ): Promise<Int32Array> {
    const wanted = text.toLowerCase();
    const found: number[] = [];
    for await (const { row, record } of this.#read(rows)) {
      throwIfAborted(signal, "search");
      if (record !== undefined && hasText(record, wanted)) found.push(row);
    }
    return Int32Array.from(found);
  }

  /** Reads rows, given in order; those that lie together are read together. */
  async *#read(rows: Int32Array): AsyncGenerator<RolloutEntry> {
    for (const { start, end } of stretchesOf(rows)) yield* this.#file.entries(start, end);
  }

  #messageCount({ messages }: RolloutRecord): number {
    return (messages?.length ?? 0) + 1;
  }

  #messageOf(record: RolloutRecord, at: number) {
    // Files of safetensors have no messages, only the text of the answer.
    const answer = record.response ?? { role: "assistant", content: record.responseText };
    return textsOf(record.messages?.[at] ?? answer);
  }
}

/** Rows, given in order, as stretches that lie together. */
function* stretchesOf(
  rows: Int32Array,
): Generator<{ readonly start: number; readonly end: number }> {
  for (let at = 0; at < rows.length;) {
    let next = at + 1;
    while (next < rows.length && rows[next] === rows[next - 1]! + 1) next++;
    yield { start: rows[at]!, end: rows[next - 1]! + 1 };
    at = next;
  }
}

/** A message as texts: what it says, and everything else that it has. */
function textsOf(
  message: NonNullable<RolloutRecord["response"]>,
): { role: string; text: string; more: string } {
  const { role, content, ...rest } = message;
  const parts = Array.isArray(content) ? content : [];
  // Of a part that is more than a text its name stands in the text, and all of it below.
  const others = parts.filter((part) =>
    typeof part.text !== "string" ||
    Object.keys(part).some((key) => key !== "type" && key !== "text")
  );
  const more = { ...rest, ...(others.length === 0 ? {} : { content: others }) };
  return {
    role,
    text: typeof content === "string" ? content : parts.map(textOfPart).join("\n"),
    more: Object.keys(more).length === 0 ? "" : JSON.stringify(more, null, 1),
  };
}

function textOfPart({ type, text }: { readonly type?: unknown; readonly text?: string }): string {
  return text ?? `[${typeof type === "string" ? type : "part"}]`;
}

function hasText(record: RolloutRecord, wanted: string): boolean {
  if (record.responseText.toLowerCase().includes(wanted)) return true;
  return [...record.messages ?? [], ...record.response === null ? [] : [record.response]]
    .some((message) => {
      const { text, more } = textsOf(message);
      return text.toLowerCase().includes(wanted) || more.toLowerCase().includes(wanted);
    });
}

/** The weight version of each sampled id of a window. */
function versionsAt(
  spans: NonNullable<RolloutRecord["weightVersions"]>,
  from: number,
  to: number,
): string[] {
  const versions: string[] = [];
  // Spans do not overlap; of a file that says otherwise only some are looked at.
  const inside = spans.filter(({ start, end }) => end > from && start < to).slice(
    0,
    windows.tokens,
  );
  for (const { version, start, end } of inside) {
    for (let at = Math.max(start, from); at < Math.min(end, to); at++) {
      versions[at - from] = version;
    }
  }
  return versions;
}

function partOf(text: string, longest: number): TextPart {
  return { text: text.slice(0, longest), length: text.length };
}

function partOfList<T>(items: readonly T[], from: number, count: number): Part<T> {
  return { total: items.length, from, items: items.slice(from, from + count) };
}

/** A number for JSON, which has no form for what is not finite. */
function shown(value: number): number | string {
  return Number.isFinite(value) ? value : String(value);
}
