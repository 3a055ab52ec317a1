import { setImmediate } from "node:timers/promises";
import { type DType, type TensorInfo, tensorSizeBytes } from "../../checkpoint/dtype.ts";
import type { DeviceMemory, FindWord, WordRange } from "../../collective/group.ts";
import { UnsupportedError, ValidationError } from "../../errors.ts";
import { throwIfAborted } from "../../internal/deadline.ts";
import { castFromOf } from "../source/cast.ts";
import type { Float8Origin, OpenWeightSource, WeightSource } from "../source/source.ts";

/** What is added to the masked bits of a word: it overflows into the tested bit for NaN and infinity. */
interface Pattern {
  readonly mask: number;
  readonly add: number;
  readonly test: number;
}

/** By type; float8_e4m3fn has NaN and no infinity. Types without either are not listed. */
const PATTERNS: Partial<Record<DType, Pattern>> = {
  float64: { mask: 0x7ff00000, add: 0x00100000, test: 0x80000000 },
  float32: { mask: 0x7f800000, add: 0x00800000, test: 0x80000000 },
  bfloat16: { mask: 0x7f807f80, add: 0x00800080, test: 0x80008000 },
  float16: { mask: 0x7c007c00, add: 0x04000400, test: 0x80008000 },
  float8_e4m3fn: { mask: 0x7f7f7f7f, add: 0x01010101, test: 0x80808080 },
  float8_e5m2: { mask: 0x7c7c7c7c, add: 0x04040404, test: 0x80808080 },
};
/** float32 that becomes bfloat16: the largest values round to infinity. */
const CAST: Pattern = { mask: 0x7fffffff, add: 0x00808000, test: 0x80000000 };

/** Words that are looked at before the event loop has a turn: some milliseconds. */
const SLICE_WORDS = 4 * 1024 * 1024;
const BLOCK_WORDS = 1024;

/** Whose values are looked at: with `true` those of a GPU must be, else they are let through. */
export type FiniteChoice = boolean | "where_possible" | "where_small";

/** What `"where_small"` looks at: half a second on one core of a server. */
const SMALL_BYTES = 1024 ** 3;

/** How values are looked at. */
export interface FiniteScan {
  readonly dtype: DType;
  /** The bytes are float32 and become bfloat16 on the way. */
  readonly castFrom?: "float32" | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Index of the first element that is NaN or infinite, or -1. Linear, four bytes at a time; it lets
 * the event loop have its turns.
 */
export async function findNonFinite(bytes: Uint8Array, scan: FiniteScan): Promise<number> {
  const layout = layoutOf(scan);
  if (layout === undefined) return -1;
  const { pattern, itemBytes, step } = layout;
  const tail = bytes.byteLength % 4;
  const words = wordsOf(bytes.subarray(0, bytes.byteLength - tail));
  for (let from = 0; from < words.length; from += SLICE_WORDS) {
    if (from > 0) await setImmediate();
    throwIfAborted(scan.signal, "check for NaN");
    const at = findWord(
      words,
      { from, to: Math.min(words.length, from + SLICE_WORDS), step },
      pattern,
    );
    if (at >= 0) return elementIn(words[at]!, at, itemBytes, pattern);
  }
  if (tail === 0) return -1;
  const last = new Uint8Array(4);
  last.set(bytes.subarray(bytes.byteLength - tail));
  const word = new Uint32Array(last.buffer)[0]!;
  return isBad(word, pattern) ? elementIn(word, words.length, itemBytes, pattern) : -1;
}

function findWord(
  words: Uint32Array,
  range: { readonly from: number; readonly to: number; readonly step: 1 | 2 },
  { mask, add, test }: Pattern,
): number {
  const { from, to, step } = range;
  for (let block = from; block < to; block += BLOCK_WORDS) {
    const end = Math.min(to, block + BLOCK_WORDS);
    let found = 0;
    for (let i = block + step - 1; i < end; i += step) {
      found |= ((words[i]! & mask) + add) & test;
    }
    if (found === 0) continue;
    for (let i = block + step - 1; i < end; i += step) {
      if (isBad(words[i]!, { mask, add, test })) return i;
    }
  }
  return -1;
}

function isBad(word: number, { mask, add, test }: Pattern): boolean {
  return (((word & mask) + add) & test) !== 0;
}

function elementIn(word: number, at: number, itemBytes: number, pattern: Pattern): number {
  if (itemBytes >= 4) return Math.floor(at * 4 / itemBytes);
  const bits = ((word & pattern.mask) + pattern.add) & pattern.test;
  const within = 4 / itemBytes;
  const width = 8 * itemBytes;
  const first = Array.from({ length: within }, (_, i) => i)
    .find((i) => ((bits >>> (i * width + width - 1)) & 1) === 1) ?? 0;
  return at * within + first;
}

function wordsOf(bytes: Uint8Array): Uint32Array {
  const isAligned = bytes.byteOffset % 4 === 0;
  return isAligned
    ? new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
    : new Uint32Array(bytes.slice().buffer);
}

/** How elements lie in words, and what to look for; `undefined` for a type without NaN and infinity. */
function layoutOf({ dtype, castFrom }: Pick<FiniteScan, "dtype" | "castFrom">) {
  const pattern = castFrom === undefined ? PATTERNS[dtype] : CAST;
  if (pattern === undefined) return undefined;
  const itemBytes = tensorSizeBytes({ dtype: castFrom ?? dtype, shape: [1] });
  // Of a float64 only the upper word tells.
  return { pattern, itemBytes, step: itemBytes === 8 ? 2 as const : 1 as const };
}

/** A source whose values are, or will be as they are read, known to be finite. */
export interface FiniteSource {
  /** What to read from instead. */
  readonly open: OpenWeightSource;
  /** Whether every value is looked at; those in memory of a GPU are not. */
  readonly isComplete: boolean;
}

/**
 * Refuses NaN and infinities: of a source that can be read twice (memory, files) before anything is
 * sent, of one that gives its tensors once as they are read.
 *
 * @throws {ValidationError} Names the first tensor with such a value.
 * @throws {UnsupportedError} Weights lie in memory of a GPU where nobody can look, or are sent by
 *   another process, and `choice` is true.
 */
export async function requireFinite(
  source: WeightSource,
  open: OpenWeightSource,
  options: {
    readonly sourceIndexes: readonly number[];
    readonly choice: Exclude<FiniteChoice, false>;
    readonly signal: AbortSignal | undefined;
    /** Looks at values in memory of a GPU; absent where nobody can. */
    readonly finder?: ((signal: AbortSignal) => Promise<FindWord | undefined>) | undefined;
  },
): Promise<FiniteSource> {
  const { sourceIndexes, choice, signal = new AbortController().signal, finder } = options;
  const required = choice === true;
  if (open.isSentElsewhere) {
    if (!required) return { open, isComplete: false };
    throw new UnsupportedError(
      `${source.label} sends its weights itself, so their values are not looked at here: leave finite ` +
        "unset or false, and check them in the trainer",
    );
  }
  const unseen: number[] = [];
  const onDevice = sourceIndexes.filter((index) => deviceOf(open, index) !== undefined);
  const here = sourceIndexes.filter((index) => deviceOf(open, index) === undefined);
  // Nobody asked for it: such weights are let through, and the report says so.
  const isComplete = onDevice.length === 0 || required;
  if (onDevice.length > 0 && required) {
    const findWord = await finder?.(signal);
    if (findWord === undefined) refuseDevice(open.tensors[onDevice[0]!]!);
    await refuseNonFiniteThere(open, onDevice, (ranges) => findWord(ranges, { signal }));
  }
  if (choice === "where_small") {
    const bytes = here.reduce((sum, index) => sum + tensorSizeBytes(open.tensors[index]!), 0);
    if (bytes > SMALL_BYTES) return { open, isComplete: false };
  }
  for (const index of here) {
    // FP8 that the device makes is refused there; made here, as it is read.
    if (open.float8?.(index) !== undefined) continue;
    const seen = open.view(index) ?? castView(open, index);
    if (seen === undefined) unseen.push(index);
    else await refuseNonFinite(open.tensors[index]!, seen, castFromOf(open, index), signal);
  }
  if (unseen.length === 0) return { open, isComplete };
  if (source.fingerprint === undefined) return { open: new ScanningSource(open), isComplete };
  await using again = await source.open({ signal });
  const scanned = new ScanningSource(again);
  const largest = Math.max(...unseen.map((index) => tensorSizeBytes(again.tensors[index]!)));
  const buffer = new Uint8Array(largest);
  for (const index of unseen.toSorted((a, b) => a - b)) {
    const target = buffer.subarray(0, tensorSizeBytes(again.tensors[index]!));
    await scanned.read(index, target, { signal });
  }
  return { open, isComplete };
}

function deviceOf(open: OpenWeightSource, index: number): readonly DeviceMemory[] | undefined {
  const memory = open.device?.(index) ?? open.wide?.device?.(index);
  return memory === undefined ? undefined : [memory].flat();
}

/** Looks at tensors in memory of a GPU, all at once. */
async function refuseNonFiniteThere(
  open: OpenWeightSource,
  indexes: readonly number[],
  findWord: (ranges: readonly WordRange[]) => ReturnType<FindWord>,
): Promise<void> {
  const ranges = indexes.flatMap((index) => {
    const { dtype } = open.tensors[index]!;
    const castFrom = castFromOf(open, index);
    const layout = layoutOf({ dtype, castFrom });
    if (layout === undefined) return [];
    const { pattern, itemBytes, step } = layout;
    let before = 0;
    return deviceOf(open, index)!.map((device) => {
      const at = before;
      before += device.byteLength / itemBytes;
      return { index, castFrom, itemBytes, before: at, range: { device, ...pattern, step } };
    });
  });
  const found = await findWord(ranges.map(({ range }) => range));
  if (found === undefined) return;
  const { index, castFrom, itemBytes, before, range } = ranges[found.range]!;
  const element = before + elementIn(found.word, found.index, itemBytes, range);
  refuseElement(open.tensors[index]!, element, castFrom);
}

function castView(open: OpenWeightSource, index: number): Uint8Array | undefined {
  return castFromOf(open, index) === undefined ? undefined : open.wide!.view(index);
}

async function refuseNonFinite(
  tensor: TensorInfo,
  bytes: Uint8Array,
  castFrom: "float32" | undefined,
  signal: AbortSignal,
): Promise<void> {
  const index = await findNonFinite(bytes, { dtype: tensor.dtype, castFrom, signal });
  if (index >= 0) refuseElement(tensor, index, castFrom);
}

function refuseElement(
  { name, dtype, shape }: TensorInfo,
  index: number,
  castFrom: "float32" | undefined,
): never {
  throw new ValidationError(
    `Weight "${name}" (${dtype} [${
      shape.join(", ")
    }]) holds NaN or an infinity at element ${index}` +
      (castFrom === undefined ? "" : ", or a value that becomes one as bfloat16") +
      `: such a model makes no sense of any prompt. Look at the training step, or set finite: false`,
  );
}

function refuseDevice({ name }: TensorInfo): never {
  throw new UnsupportedError(
    `Weight "${name}" lies in device memory, whose values are not looked at here: leave finite unset ` +
      `or false, and check them on the device`,
  );
}

/** Looks at every tensor as it is read. */
class ScanningSource implements OpenWeightSource {
  readonly tensors: readonly TensorInfo[];
  readonly readsAtOnce: number | undefined;
  readonly wide: OpenWeightSource | undefined;
  readonly #inner: OpenWeightSource;
  readonly #castOf: (index: number) => "float32" | undefined;

  constructor(
    inner: OpenWeightSource,
    castFrom: (index: number) => "float32" | undefined = () => undefined,
  ) {
    this.#inner = inner;
    this.#castOf = castFrom;
    this.tensors = inner.tensors;
    this.readsAtOnce = inner.readsAtOnce;
    this.wide = inner.wide && new ScanningSource(inner.wide, (index) => castFromOf(inner, index));
  }

  view(index: number): Uint8Array | undefined {
    return this.#inner.view(index);
  }

  device(index: number): ReturnType<NonNullable<OpenWeightSource["device"]>> {
    return this.#inner.device?.(index);
  }

  float8(index: number): Float8Origin | undefined {
    return this.#inner.float8?.(index);
  }

  async read(index: number, target: Uint8Array, call: { signal: AbortSignal }): Promise<void> {
    await this.#inner.read(index, target, call);
    await refuseNonFinite(this.tensors[index]!, target, this.#castOf(index), call.signal);
  }

  async confirm(call: { signal: AbortSignal }): Promise<void> {
    await this.#inner.confirm?.(call);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inner[Symbol.asyncDispose]();
  }
}
