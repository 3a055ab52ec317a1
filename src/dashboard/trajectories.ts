import { ValidationError } from "../errors.ts";
import type { RolloutFile, RolloutRecord } from "../rollout_file/mod.ts";
import { rowLine } from "../rollout_file/row_line.ts";
import { groupAdvantages } from "../training/mod.ts";

/** Which rows are wanted; what is left out does not matter. */
export interface RowFilter {
  readonly group?: number | undefined;
  readonly dialog?: number | undefined;
  readonly minReward?: number | undefined;
  readonly maxReward?: number | undefined;
  readonly finish?: string | undefined;
  /** Only rows that are stale, or that are not. */
  readonly stale?: boolean | undefined;
  /** Text that the answer or a message has; case does not matter. */
  readonly text?: string | undefined;
}

/** One line of the list of rows. */
export interface RowSummary {
  readonly row: number;
  readonly dialog: number;
  readonly group: number;
  readonly member: number;
  readonly turn: number;
  readonly branch: number;
  readonly tokens: number;
  readonly reward: number;
  readonly finish: string;
  readonly done: boolean;
  readonly stale: boolean;
  /** The beginning of the answer. */
  readonly beginning: string;
}

const finishes = ["stop", "length", "abort"] as const;
const MOST_WINDOW = 500;
const BEGINNING = 160;
const LONGEST_SEARCH = 200;

/**
 * A file of rollouts with an index of a few numbers for each row, so that lists, filters and groups
 * of any size need no text in memory.
 */
export class Trajectories implements AsyncDisposable {
  readonly #file: RolloutFile;
  readonly name: string;
  readonly #dialog: Float64Array;
  readonly #group: Float64Array;
  readonly #member: Int32Array;
  readonly #turn: Int32Array;
  readonly #tokens: Int32Array;
  readonly #reward: Float64Array;
  readonly #finish: Uint8Array;
  readonly #stale: Uint8Array;
  /** Sum of a dialog's rewards and its advantage in its group. */
  readonly #dialogs = new Map<string, { group: number; reward: number; advantage: number }>();
  #last: { readonly key: string; readonly rows: Int32Array } | undefined;

  private constructor(file: RolloutFile, name: string) {
    this.#file = file;
    this.name = name;
    const { length } = file;
    this.#dialog = new Float64Array(length);
    this.#group = new Float64Array(length);
    this.#member = new Int32Array(length);
    this.#turn = new Int32Array(length);
    this.#tokens = new Int32Array(length);
    this.#reward = new Float64Array(length);
    this.#finish = new Uint8Array(length);
    this.#stale = new Uint8Array(length);
  }

  /** Reads a file once from its beginning to its end; the file belongs to the result. */
  static async open(
    file: RolloutFile,
    name: string,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<Trajectories> {
    const made = new Trajectories(file, name);
    let at = 0;
    for await (const row of file) {
      options.signal?.throwIfAborted();
      made.#add(at++, row);
    }
    made.#compare();
    return made;
  }

  /** Number of rows. */
  get length(): number {
    return this.#file.length;
  }

  /** What the file is. */
  describe() {
    const rewards = [...this.#dialogs.values()].map(({ reward }) => reward);
    const groups = new Set(this.#group);
    return {
      name: this.name,
      form: this.#file.form,
      schema: this.#file.schema,
      rows: this.length,
      dialogs: this.#dialogs.size,
      groups: groups.size,
      meanReward: rewards.length === 0
        ? null
        : rewards.reduce((sum, reward) => sum + reward, 0) / rewards.length,
      versionNames: this.#file.versionNames?.slice(-1000) ?? null,
    };
  }

  /** Numbers of the rows that a filter lets through. */
  async filter(filter: RowFilter): Promise<Int32Array> {
    const key = JSON.stringify(filter);
    if (this.#last?.key === key) return this.#last.rows;
    const { text, ...numbers } = filter;
    let rows = this.#byNumbers(numbers);
    if (text !== undefined && text !== "") rows = await this.#byText(rows, text);
    this.#last = { key, rows };
    return rows;
  }

  /** One window of the list. */
  async window(rows: Int32Array, from: number, count: number): Promise<RowSummary[]> {
    const wanted = rows.subarray(from, from + Math.min(count, MOST_WINDOW));
    const records = await this.#read(wanted);
    return records.map((record, i) => this.#summary(wanted[i]!, record));
  }

  /** Everything about one row. */
  async row(row: number) {
    if (!Number.isInteger(row) || row < 0 || row >= this.length) {
      throw new ValidationError(`There is no row ${row}: the file has ${this.length}`);
    }
    const [record] = await this.#file.rows(row, row + 1);
    const { promptIds, responseIds, logProbs, routedExperts: _notShown, ...rest } = record!;
    const { reward: dialogReward, advantage } = this.#outcomeOf(rest);
    return {
      ...rest,
      row,
      promptIds: promptIds === null ? null : [...promptIds],
      responseIds: [...responseIds],
      logProbs: logProbs === null ? null : [...logProbs],
      dialogReward,
      advantage,
      siblings: await this.#siblings(rest.dialog, rest.attempt),
    };
  }

  /** The dialogs of a group side by side: their rewards and their last answers. */
  async group(group: number) {
    const rows = this.#byNumbers({ group });
    const last = new Map<string, number>();
    for (const row of rows) last.set(`${this.#dialog[row]}/${this.#member[row]}`, row);
    const wanted = Int32Array.from(last.values()).slice(0, MOST_WINDOW);
    const records = await this.#read(wanted);
    return records.map((record, i) => ({
      row: wanted[i]!,
      dialog: record.dialog,
      member: record.member,
      turns: record.turn + 1,
      ...this.#outcomeOf(record),
      finish: record.finishReason,
      prompt: record.messages?.at(0) ?? null,
      text: record.responseText.slice(0, 4000),
    }));
  }

  /** Rows as JSON lines, one text each. */
  async *jsonLines(rows: Int32Array): AsyncGenerator<string> {
    for (let at = 0; at < rows.length; at += 64) {
      for (const record of await this.#read(rows.subarray(at, at + 64))) {
        yield toLine(record);
      }
    }
  }

  /** Closes the file. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file[Symbol.asyncDispose]();
  }

  /** What the dialog of a row came to. */
  #outcomeOf({ dialog, attempt }: Pick<RolloutRecord, "dialog" | "attempt">) {
    const { reward = null, advantage = null } = this.#dialogs.get(`${dialog}/${attempt}`) ?? {};
    return { reward, advantage };
  }

  #add(at: number, row: RolloutRecord): void {
    this.#dialog[at] = row.dialog;
    this.#group[at] = row.group;
    this.#member[at] = row.member;
    this.#turn[at] = row.turn;
    this.#tokens[at] = row.responseIds.length;
    this.#reward[at] = row.reward;
    this.#finish[at] = finishes.indexOf(row.finishReason);
    this.#stale[at] = Number(row.stale);
    const key = `${row.dialog}/${row.attempt}`;
    const known = this.#dialogs.get(key);
    if (known === undefined) {
      this.#dialogs.set(key, { group: row.group, reward: row.reward, advantage: 0 });
    } else known.reward += row.reward;
  }

  #compare(): void {
    const dialogs = [...this.#dialogs.values()];
    const advantages = groupAdvantages(
      dialogs.map(({ reward }) => reward),
      dialogs.map(({ group }) => group),
    );
    dialogs.forEach((dialog, i) => dialog.advantage = advantages[i]!);
  }

  #byNumbers(filter: Omit<RowFilter, "text">): Int32Array {
    const { group, dialog, minReward, maxReward, stale } = filter;
    const finish = filter.finish === undefined
      ? undefined
      : finishes.indexOf(filter.finish as typeof finishes[number]);
    const out = new Int32Array(this.length);
    let count = 0;
    for (let row = 0; row < this.length; row++) {
      if (group !== undefined && this.#group[row] !== group) continue;
      if (dialog !== undefined && this.#dialog[row] !== dialog) continue;
      if (minReward !== undefined && !(this.#reward[row]! >= minReward)) continue;
      if (maxReward !== undefined && !(this.#reward[row]! <= maxReward)) continue;
      if (finish !== undefined && this.#finish[row] !== finish) continue;
      if (stale !== undefined && Boolean(this.#stale[row]) !== stale) continue;
      out[count++] = row;
    }
    return out.slice(0, count);
  }

  async #byText(rows: Int32Array, text: string): Promise<Int32Array> {
    if (text.length > LONGEST_SEARCH) {
      throw new ValidationError(`A search has at most ${LONGEST_SEARCH} characters`);
    }
    const wanted = text.toLowerCase();
    const found: number[] = [];
    for (let at = 0; at < rows.length; at += 256) {
      const part = rows.subarray(at, at + 256);
      const records = await this.#read(part);
      records.forEach((record, i) => {
        const isThere = record.responseText.toLowerCase().includes(wanted) ||
          JSON.stringify(record.messages ?? "").toLowerCase().includes(wanted);
        if (isThere) found.push(part[i]!);
      });
    }
    return Int32Array.from(found);
  }

  /** The rows of a dialog, as the tree of its branches needs them. */
  #siblings(dialog: number, attempt: number) {
    const rows = this.#byNumbers({ dialog }).slice(0, MOST_WINDOW);
    return this.#read(rows).then((records) =>
      records.flatMap((record, i) =>
        record.attempt !== attempt ? [] : [{
          row: rows[i]!,
          turn: record.turn,
          parent: record.parent,
          branch: record.branch,
          reward: record.reward,
          tokens: record.responseIds.length,
        }]
      )
    );
  }

  /** Reads rows by number; those that lie together are read together. */
  async #read(rows: Int32Array): Promise<RolloutRecord[]> {
    const out: RolloutRecord[] = [];
    for (let at = 0; at < rows.length;) {
      let end = at + 1;
      while (end < rows.length && rows[end] === rows[end - 1]! + 1 && end - at < 64) end++;
      out.push(...await this.#file.rows(rows[at]!, rows[end - 1]! + 1));
      at = end;
    }
    return out;
  }

  #summary(row: number, record: RolloutRecord): RowSummary {
    return {
      row,
      dialog: record.dialog,
      group: record.group,
      member: record.member,
      turn: record.turn,
      branch: record.branch,
      tokens: record.responseIds.length,
      reward: record.reward,
      finish: record.finishReason,
      done: record.done,
      stale: record.stale,
      beginning: record.responseText.slice(0, BEGINNING),
    };
  }
}

/** A row in the form in which a file has it, so that the selection can be opened again. */
function toLine(row: RolloutRecord): string {
  // Files of safetensors have no messages.
  const { messages, response } = row;
  return rowLine({
    ...row,
    messages: messages ?? [],
    response: response ?? { role: "assistant", content: row.responseText },
  }, JSON.stringify(row.tokenVersions));
}
