import { join } from "node:path";
import type { DType, TensorInfo } from "../../checkpoint/dtype.ts";
import { openCheckpoint } from "../../checkpoint/reader.ts";
import { SGLangError, ValidationError } from "../../errors.ts";
import { nearestName } from "../../internal/suggest.ts";
import type { FleetServer } from "../fleet/server.ts";
import type { ResolvedOptions } from "../resolved_options.ts";
import type { OpenWeightSource, WeightSource } from "../source/source.ts";

/** Element type and shape of every weight of a model, by name. */
export type ModelMetadata = ReadonlyMap<
  string,
  { readonly dtype: DType; readonly shape: readonly number[] }
>;

/** A tensor to send and its place in the source. */
export type CheckedTensor = TensorInfo & { readonly sourceIndex: number };

/** What the names, types and shapes of a source are compared with. */
export interface CheckOptions {
  /** The model's weights. */
  readonly reference: ModelMetadata;
  /** Whose weights those are, for messages. */
  readonly referenceLabel: string;
  /**
   * `"declared"`: the trainer told the weights at set-up, so a type must be equal, and names that it
   * did not declare stay behind. `"model"`: they were read from the servers' checkpoint, so a type
   * must be equal or one that the model's holds exactly, and unknown names are errors.
   */
  readonly kind: "declared" | "model";
  /** Weights that share their memory with another: tied name to the name that is kept. */
  readonly tied: ReadonlyMap<string, string>;
}

/** What {@linkcode checkTensors} found. */
export interface CheckResult {
  /** What is to be sent, in the order of the source. */
  readonly send: readonly CheckedTensor[];
  /** Names that stay behind because they share their memory with one that is sent. */
  readonly tied: readonly string[];
  /** Names that stay behind because the trainer did not declare them. */
  readonly extra: readonly string[];
}

/**
 * Compares a source with the servers' model. A server ignores unknown names and casts types without
 * a word, so every difference is an error here, before anything is sent.
 *
 * @throws {ValidationError} Lists every missing, unknown, doubled and changed weight.
 */
export function checkTensors(tensors: readonly TensorInfo[], options: CheckOptions): CheckResult {
  const { reference, tied } = options;
  const names = new Set(tensors.map(({ name }) => name));
  const complaints: string[] = [];
  const send: CheckedTensor[] = [];
  const tiedNames: string[] = [];
  const unknown: string[] = [];
  const seen = new Set<string>();
  tensors.forEach((tensor, sourceIndex) => {
    const { name } = tensor;
    if (seen.has(name)) complaints.push(`Weight '${name}' is there twice.`);
    seen.add(name);
    const expected = reference.get(name);
    if (expected === undefined) {
      const kept = tied.get(name);
      if (kept !== undefined && names.has(kept)) tiedNames.push(name);
      else unknown.push(name);
      return;
    }
    const difference = differenceOf(expected, tensor, options.kind);
    if (difference !== undefined) complaints.push(difference);
    send.push({ ...tensor, sourceIndex });
  });
  const missing = [...reference.keys()].filter((name) => {
    const kept = tied.get(name);
    return !names.has(name) && !(kept !== undefined && names.has(kept));
  });
  if (options.kind === "model") {
    complaints.push(...unknown.map((name) => unknownWeight(name, reference)));
  }
  complaints.push(...missing.map((name) => `Weight '${name}' not found in weights.`));
  if (missing.length > 0) complaints.push(availableKeys(tensors));
  if (complaints.length > 0) throw complaint(complaints, missing.length, unknown.length, options);
  return { send, tied: tiedNames, extra: unknown };
}

function differenceOf(
  expected: { readonly dtype: DType; readonly shape: readonly number[] },
  got: TensorInfo,
  kind: "declared" | "model",
): string | undefined {
  const fits = expected.dtype === got.dtype ||
    (kind === "model" && (HELD_EXACTLY[expected.dtype]?.includes(got.dtype) ?? false));
  if (fits && expected.shape.join() === got.shape.join()) return undefined;
  const hint = expected.dtype === "bfloat16" && got.dtype === "float32"
    ? ' Set castFloat32To: "bfloat16" to round it on the way.'
    : "";
  return `Weight '${got.name}' metadata changed before SGLang sync: expected ` +
    `dtype=${expected.dtype}, shape=(${expected.shape.join(", ")}), got dtype=${got.dtype}, ` +
    `shape=(${got.shape.join(", ")}).${hint}`;
}

/**
 * Types whose every value a type holds, so that the server's cast changes none. All other casts lose
 * something (float8 would also need scales), and a server makes them without a word.
 */
const HELD_EXACTLY: Partial<Record<DType, readonly DType[]>> = {
  float32: ["bfloat16", "float16"],
  float64: ["float32", "bfloat16", "float16"],
};

function unknownWeight(name: string, reference: ModelMetadata): string {
  const near = nearestName(name, reference.keys());
  return `Weight '${name}' is unknown to the model` +
    (near === undefined ? "." : `; did you mean '${near}'?`);
}

function availableKeys(tensors: readonly TensorInfo[]): string {
  const names = tensors.slice(0, 5).map(({ name }) => `'${name}'`).join(", ");
  return `Available keys: [${names}]${tensors.length > 5 ? `... (${tensors.length})` : ""}`;
}

const LISTED = 40;

function complaint(
  lines: readonly string[],
  missing: number,
  unknown: number,
  options: CheckOptions,
): ValidationError {
  const more = lines.length > LISTED ? [`... and ${lines.length - LISTED} more.`] : [];
  const unknownText = options.kind === "model" ? `, ${unknown} unknown` : "";
  return new ValidationError(
    [
      `The weights do not fit ${options.referenceLabel} (${missing} missing${unknownText}); ` +
      `nothing was sent.`,
      ...lines.slice(0, LISTED),
      ...more,
    ].join("\n"),
  );
}

/** Name, type and shape of every weight of a source, as {@linkcode ModelMetadata}. */
export async function metadataOf(source: WeightSource): Promise<ModelMetadata> {
  await using open = await source.open();
  return asMetadata(open);
}

function asMetadata(open: OpenWeightSource): ModelMetadata {
  return new Map(open.tensors.map(({ name, dtype, shape }) => [name, { dtype, shape }]));
}

/** Finds what the names of a source are compared with. */
export async function referenceOf(
  request: {
    readonly declared: ModelMetadata | undefined;
    readonly options: ResolvedOptions;
    readonly signal: AbortSignal | undefined;
  },
  open: OpenWeightSource,
  servers: readonly FleetServer[],
): Promise<CheckOptions> {
  const { declared, signal } = request;
  const { nameCheck, tiedWeights } = request.options;
  if (declared !== undefined) {
    return {
      reference: declared,
      referenceLabel: "what initAllWorkersGroup() was told",
      kind: "declared",
      tied: tiedWeights ?? new Map(),
    };
  }
  if (nameCheck === "off") {
    return {
      reference: asMetadata(open),
      referenceLabel: "the source itself",
      kind: "declared",
      tied: new Map(),
    };
  }
  const { modelPath, tokenizerPath } = await servers[0]!.client.modelInfo({
    signal,
    timeoutMs: request.options.deadlines.controlMs,
  });
  const model = await readModel(modelPath, tokenizerPath, signal);
  return {
    reference: await withServedTypes(model.names, { modelPath, tokenizerPath, signal }, servers),
    referenceLabel: `the servers' model ${modelPath}`,
    kind: "model",
    tied: tiedWeights ?? tiedHead(model, open),
  };
}

/** Types that `--dtype` replaces; quantised weights keep theirs. */
const PLAIN_FLOATS: readonly DType[] = ["float64", "float32", "float16", "bfloat16"];

/**
 * The model's weights in the types that the servers hold: what `--dtype` says, else the types of the
 * checkpoint that they began with. An update from disk makes its folder the model's path, but the
 * memory stays what it was.
 */
async function withServedTypes(
  names: ModelMetadata,
  model: {
    readonly modelPath: string;
    readonly tokenizerPath: string | null;
    readonly signal: AbortSignal | undefined;
  },
  servers: readonly FleetServer[],
): Promise<ModelMetadata> {
  const told = new Set(servers.map(({ dtype }) => dtype));
  const dtype = told.size === 1 ? [...told][0] : undefined;
  const { modelPath, tokenizerPath, signal } = model;
  const first = dtype !== undefined || tokenizerPath === null || tokenizerPath === modelPath
    ? undefined
    : (await readFolder(tokenizerPath, signal).catch(() => undefined))?.names;
  const isSameModel = first !== undefined && first.size === names.size &&
    [...names].every(([name, { shape }]) => first.get(name)?.shape.join() === shape.join());
  return new Map([...names].map(([name, info]) => {
    const began = isSameModel ? first.get(name)!.dtype : info.dtype;
    return [name, {
      shape: info.shape,
      dtype: dtype !== undefined && PLAIN_FLOATS.includes(began) ? dtype : began,
    }];
  }));
}

/** The weights of a model's checkpoint. */
interface Model {
  readonly names: ModelMetadata;
  /** Whether its config says that the output head is the embedding. */
  readonly isTied: boolean;
}

/**
 * The output head that may stay behind: only of a model whose config says that it is tied, and whose
 * checkpoint has none. Left out of any other it would leave the servers with their old head.
 */
function tiedHead({ names, isTied }: Model, open: OpenWeightSource): ReadonlyMap<string, string> {
  const endsWith = (end: string) => open.tensors.find(({ name }) => name.endsWith(end))?.name;
  const head = endsWith("lm_head.weight");
  const embedding = endsWith("embed_tokens.weight");
  const isExcused = isTied && head !== undefined && embedding !== undefined && !names.has(head);
  return new Map(isExcused ? [[head, embedding]] : []);
}

/**
 * Reads the names from the model's folder, or from the tokenizer's: an update from disk makes its
 * folder the model's path, and that may be gone since; the tokenizer stays where the server began.
 */
async function readModel(
  modelPath: string,
  tokenizerPath: string | null,
  signal: AbortSignal | undefined,
): Promise<Model> {
  try {
    return await readFolder(modelPath, signal);
  } catch (cause) {
    if (!(cause instanceof SGLangError) || cause.code === "aborted") throw cause;
    const second = tokenizerPath === null || tokenizerPath === modelPath
      ? undefined
      : await readFolder(tokenizerPath, signal).catch(() => undefined);
    if (second !== undefined) return second;
    throw new ValidationError(
      `The names of the weights could not be checked, because the servers' model "${modelPath}" ` +
        `cannot be read here (${cause.message}); a server ignores unknown names without a word. ` +
        `Give the expected weights to initAllWorkersGroup(), for example ` +
        `await metadataOf(safetensors(folder)), or set nameCheck: "off"`,
      { cause },
    );
  }
}

async function readFolder(path: string, signal: AbortSignal | undefined): Promise<Model> {
  await using checkpoint = await openCheckpoint(path, { signal });
  const names = new Map(
    [...checkpoint.tensors.values()].map(({ name, dtype, shape }) => [name, { dtype, shape }]),
  );
  return { names, isTied: await isHeadTied(path) };
}

/** A config is a few kilobytes; more is none. */
const MAX_CONFIG_BYTES = 1024 * 1024;

/** What a model's `config.json` says; one that cannot be read says nothing, so not tied. */
async function isHeadTied(folder: string): Promise<boolean> {
  const path = join(folder, "config.json");
  try {
    if ((await Deno.stat(path)).size > MAX_CONFIG_BYTES) return false;
    const config = JSON.parse(await Deno.readTextFile(path));
    return (config?.text_config ?? config)?.tie_word_embeddings === true ||
      config?.tie_word_embeddings === true;
  } catch {
    return false;
  }
}
