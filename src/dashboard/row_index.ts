import { ValidationError } from "../errors.ts";
import type {
  DamagedRow,
  FinishName,
  RolloutEntry,
  RolloutFile,
  RolloutRecord,
} from "../rollout_file/mod.ts";
import { finishNames } from "../rollout_file/record.ts";
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
  /** Only rows that cannot be read, or that can. */
  readonly damaged?: boolean | undefined;
}

/** What a try of a dialog came to. */
export interface Outcome {
  /** Sum of the rewards of its turns. */
  readonly reward: number | null;
  /** Its advantage in its group; `null` for a try that was run anew. */
  readonly advantage: number | null;
  /** Whether a later try of the dialog is in the file. */
  readonly wasRunAnew: boolean;
}

/** A dialog's last turn in a file, which stands for the dialog. */
export interface Member {
  readonly row: number;
  readonly dialog: number;
  readonly attempt: number;
  readonly member: number;
  readonly turns: number;
}

/** A turn as the tree of a dialog needs it. */
export interface TreeTurn {
  readonly row: number;
  readonly turn: number;
  readonly parent: number | null;
  readonly branch: number;
  readonly reward: number;
  readonly tokens: number;
}

const STALE = 1;
const DAMAGED = 2;
/** Damaged rows whose reason is held; of the others it is read again when they are looked at. */
const MOST_REASONS = 100;
/** A row of more bytes is not read again for a line of the list. */
const LARGE_ROW_BYTES = 2 ** 18;
const BEGINNING = 160;

/**
 * A few numbers of every row of a file, about 60 bytes, so that lists, filters, groups and trees of any
 * size need no text in memory.
 */
export class RowIndex {
  readonly length: number;
  readonly #dialog: Float64Array;
  readonly #group: Float64Array;
  readonly #member: Int32Array;
  readonly #turn: Int32Array;
  readonly #parent: Int32Array;
  readonly #branch: Int32Array;
  readonly #tokens: Int32Array;
  readonly #reward: Float64Array;
  readonly #finish: Uint8Array;
  readonly #flags: Uint8Array;
  /** Which try each row belongs to; -1 for a damaged row. */
  readonly #try: Int32Array;
  readonly #tries = new Tries();
  readonly #beginnings = new Map<number, string>();
  readonly #reasons: { readonly row: number; readonly message: string }[] = [];
  #damaged = 0;

  private constructor(length: number) {
    this.length = length;
    this.#dialog = new Float64Array(length);
    this.#group = new Float64Array(length);
    this.#member = new Int32Array(length);
    this.#turn = new Int32Array(length);
    this.#parent = new Int32Array(length);
    this.#branch = new Int32Array(length);
    this.#tokens = new Int32Array(length);
    this.#reward = new Float64Array(length);
    this.#finish = new Uint8Array(length);
    this.#flags = new Uint8Array(length);
    this.#try = new Int32Array(length).fill(-1);
  }

  /** Reads a file once from its beginning to its end. */
  static async of(
    file: RolloutFile,
    options: {
      readonly signal?: AbortSignal | undefined;
      readonly onProgress?: ((row: number) => void) | undefined;
    } = {},
  ): Promise<RowIndex> {
    const made = new RowIndex(file.length);
    for await (const entry of file.entries()) {
      options.signal?.throwIfAborted();
      if (entry.row % 1000 === 0) options.onProgress?.(entry.row);
      if (entry.damage !== undefined) made.#addDamaged(entry.row, entry.damage);
      else await made.#add(entry, file);
    }
    made.#tries.compare();
    return made;
  }

  /** Numbers of the whole file. */
  get totals() {
    return { rows: this.length, ...this.#tries.totals };
  }

  /** How many rows cannot be read, and why the first of them. */
  get damaged(): {
    readonly count: number;
    readonly first: readonly { readonly row: number; readonly message: string }[];
  } {
    return { count: this.#damaged, first: this.#reasons };
  }

  /** Whether a row cannot be read. */
  isDamaged(row: number): boolean {
    return (this.#flags[row]! & DAMAGED) !== 0;
  }

  /** Rows that a filter lets through, in order. */
  filter({ group, dialog, minReward, maxReward, finish, stale, damaged }: RowFilter): Int32Array {
    const wantedFinish = finish === undefined
      ? undefined
      : finishNames.indexOf(finish as FinishName);
    const asksNumbers = [group, dialog, minReward, maxReward, finish, stale]
      .some((one) => one !== undefined);
    const rows = new Int32Array(this.length);
    let count = 0;
    for (let row = 0; row < this.length; row++) {
      const isDamaged = this.isDamaged(row);
      if (isDamaged && asksNumbers) continue;
      if (damaged !== undefined && isDamaged !== damaged) continue;
      if (group !== undefined && this.#group[row] !== group) continue;
      if (dialog !== undefined && this.#dialog[row] !== dialog) continue;
      if (minReward !== undefined && !(this.#reward[row]! >= minReward)) continue;
      if (maxReward !== undefined && !(this.#reward[row]! <= maxReward)) continue;
      if (wantedFinish !== undefined && this.#finish[row] !== wantedFinish) continue;
      if (stale !== undefined && ((this.#flags[row]! & STALE) !== 0) !== stale) continue;
      rows[count++] = row;
    }
    return rows.slice(0, count);
  }

  /** The numbers of a line of the list. */
  numbersOf(row: number) {
    return {
      row,
      dialog: this.#dialog[row]!,
      group: this.#group[row]!,
      member: this.#member[row]!,
      turn: this.#turn[row]!,
      branch: this.#branch[row]!,
      tokens: this.#tokens[row]!,
      reward: this.#reward[row]!,
      finish: finishNames[this.#finish[row]!]!,
      stale: (this.#flags[row]! & STALE) !== 0,
    };
  }

  /** The beginning of an answer that is too large to be read for a line; else it is not held. */
  beginningOf(row: number): string | undefined {
    return this.#beginnings.get(row);
  }

  /** What the try that a row belongs to came to. */
  outcomeOf(row: number): Outcome {
    return this.#tries.outcomeOf(this.#try[row]!);
  }

  /** The dialogs of a group by member; those that were run anew, too. */
  membersOf(group: number): Member[] {
    const last = new Map<number, { row: number; turns: number }>();
    for (const row of this.filter({ group })) {
      const known = last.get(this.#try[row]!);
      last.set(this.#try[row]!, { row, turns: (known?.turns ?? 0) + 1 });
    }
    return [...last].map(([tryNumber, { row, turns }]) => ({
      row,
      dialog: this.#dialog[row]!,
      attempt: this.#tries.attemptOf(tryNumber),
      member: this.#member[row]!,
      turns,
    })).sort((a, b) => a.member - b.member || a.dialog - b.dialog || a.attempt - b.attempt);
  }

  /** The turns of the dialog of a row, of the same try. */
  turnsOf(row: number): TreeTurn[] {
    const mine = this.#try[row]!;
    const turns: TreeTurn[] = [];
    for (let at = 0; mine >= 0 && at < this.length; at++) {
      if (this.#try[at] !== mine) continue;
      const parent = this.#parent[at]!;
      turns.push({
        row: at,
        turn: this.#turn[at]!,
        parent: parent < 0 ? null : parent,
        branch: this.#branch[at]!,
        reward: this.#reward[at]!,
        tokens: this.#tokens[at]!,
      });
    }
    return turns;
  }

  #addDamaged(row: number, { message }: DamagedRow): void {
    this.#damaged++;
    this.#flags[row] = DAMAGED;
    if (this.#reasons.length < MOST_REASONS) this.#reasons.push({ row, message });
  }

  async #add(
    { row, record }: Extract<RolloutEntry, { readonly record: RolloutRecord }>,
    file: RolloutFile,
  ): Promise<void> {
    this.#dialog[row] = record.dialog;
    this.#group[row] = record.group;
    this.#member[row] = record.member;
    this.#turn[row] = record.turn;
    this.#parent[row] = record.parent ?? -1;
    this.#branch[row] = record.branch;
    this.#tokens[row] = record.responseIds.length;
    this.#reward[row] = record.reward;
    this.#finish[row] = finishNames.indexOf(record.finishReason);
    this.#flags[row] = record.stale ? STALE : 0;
    this.#try[row] = this.#tries.add(record);
    // A file of safetensors would have to be read for the size of a row.
    const bytes = file.form === "json-lines" ? await file.bytesOf(row, row + 1) : sizeOf(record);
    if (bytes > LARGE_ROW_BYTES) this.#beginnings.set(row, beginningOf(record));
  }
}

function sizeOf({ promptIds, responseIds, responseText }: RolloutRecord): number {
  return 4 * (promptIds?.length ?? 0) + 12 * responseIds.length + responseText.length;
}

/** What stands for an answer in a list. */
export function beginningOf({ responseText }: RolloutRecord): string {
  return responseText.slice(0, BEGINNING);
}

/** Tries of dialogs; the last try of a dialog is what it came to. */
class Tries {
  readonly #dialogs: number[] = [];
  readonly #attempts: number[] = [];
  readonly #groups: number[] = [];
  readonly #rewards: number[] = [];
  #advantages: (number | null)[] = [];
  /** The last try of each dialog. */
  readonly #last = new Map<number, number>();
  /** Tries of dialogs that have several, by dialog and attempt. */
  readonly #others = new Map<string, number>();
  #totals = { dialogs: 0, attempts: 0, groups: 0, meanReward: null as number | null };

  /** Adds a turn; returns the number of its try. */
  add({ dialog, attempt, group, reward }: RolloutRecord): number {
    const number = this.#find(dialog, attempt);
    if (number !== undefined) {
      this.#rewards[number]! += reward;
      return number;
    }
    const made = this.#dialogs.length;
    this.#dialogs.push(dialog);
    this.#attempts.push(attempt);
    this.#groups.push(group);
    this.#rewards.push(reward);
    const last = this.#last.get(dialog);
    if (last !== undefined) {
      this.#others.set(`${dialog}/${this.#attempts[last]}`, last);
      this.#others.set(`${dialog}/${attempt}`, made);
    }
    if (last === undefined || this.#attempts[last]! < attempt) this.#last.set(dialog, made);
    return made;
  }

  /** Compares the last tries of the dialogs of each group. */
  compare(): void {
    const numbers = [...this.#last.values()];
    const counted = numbers.filter((number) => Number.isFinite(this.#rewards[number]));
    const rewards = counted.map((number) => this.#rewards[number]!);
    const advantages = groupAdvantages(rewards, counted.map((number) => this.#groups[number]!));
    this.#advantages = this.#dialogs.map(() => null);
    counted.forEach((number, i) => this.#advantages[number] = advantages[i]!);
    this.#totals = {
      dialogs: numbers.length,
      attempts: this.#dialogs.length,
      groups: new Set(this.#groups).size,
      meanReward: rewards.length === 0
        ? null
        : rewards.reduce((sum, reward) => sum + reward, 0) / rewards.length,
    };
  }

  get totals() {
    return this.#totals;
  }

  attemptOf(number: number): number {
    return this.#attempts[number]!;
  }

  outcomeOf(number: number): Outcome {
    if (number < 0) throw new ValidationError("A damaged row belongs to no dialog");
    return {
      reward: this.#rewards[number]!,
      advantage: this.#advantages[number]!,
      wasRunAnew: this.#last.get(this.#dialogs[number]!) !== number,
    };
  }

  #find(dialog: number, attempt: number): number | undefined {
    const last = this.#last.get(dialog);
    if (last === undefined || this.#attempts[last] === attempt) return last;
    return this.#others.get(`${dialog}/${attempt}`);
  }
}
