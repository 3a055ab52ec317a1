import { join } from "node:path";
import type { DType, TensorInfo } from "../../checkpoint/dtype.ts";
import { parseStrictJson } from "../../checkpoint/json.ts";
import { openCheckpoint } from "../../checkpoint/reader.ts";
import { CheckpointError, SGLangError, ValidationError } from "../../errors.ts";
import { readRegularFile } from "../../internal/regular_file.ts";
import { nearestName } from "../../internal/suggest.ts";
import type { FleetServer } from "../fleet/server.ts";
import type { ResolvedOptions } from "../resolved_options.ts";
import type { OpenWeightSource, WeightSource } from "../source/source.ts";
import type { Part } from "./part.ts";

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

/**
 * Compares a source with every model that the servers have; the same weights must go to all.
 *
 * @throws {ValidationError} As {@linkcode checkTensors}, or the servers' models take different ones.
 */
export function checkForAll(
  tensors: readonly TensorInfo[],
  models: readonly CheckOptions[],
  part?: Part,
): CheckResult {
  if (part !== undefined) return checkPart(tensors, models, part);
  const [first, ...others] = models.map((model) => ({ model, ...checkTensors(tensors, model) }));
  for (const other of others) {
    const taken = new Set(other.send.map(({ name }) => name));
    const given = new Set(first!.send.map(({ name }) => name));
    const [name] = given.symmetricDifference(taken);
    if (name === undefined) continue;
    throw new ValidationError(
      `The servers have different models: ${first!.model.referenceLabel} ` +
        `${given.has(name) ? "takes" : "does not take"} the weight '${name}', ` +
        `${other.model.referenceLabel} ${taken.has(name) ? "does" : "does not"}. Sync them apart`,
    );
  }
  return first!;
}

/** The same for a part of the tensors: the others of the source stay behind. */
function checkPart(
  tensors: readonly TensorInfo[],
  models: readonly CheckOptions[],
  part: Part,
): CheckResult {
  const places: number[] = [];
  const chosen = tensors.filter(({ name }, place) => part.has(name) && places.push(place) > 0);
  const { send, tied, extra } = checkForAll(chosen, models.map((model) => part.of(model)));
  const sent = send.map((tensor) => ({ ...tensor, sourceIndex: places[tensor.sourceIndex]! }));
  return { send: sent, tied, extra };
}

/** Finds what the names of a source are compared with: one for each model that servers have. */
export async function referencesOf(
  request: {
    readonly declared: ModelMetadata | undefined;
    readonly options: ResolvedOptions;
    readonly signal: AbortSignal | undefined;
  },
  open: OpenWeightSource,
  servers: readonly FleetServer[],
): Promise<CheckOptions[]> {
  const { declared, signal } = request;
  const { nameCheck, tiedWeights } = request.options;
  if (declared !== undefined) {
    return [{
      reference: declared,
      referenceLabel: "what initAllWorkersGroup() was told",
      kind: "declared",
      tied: tiedWeights ?? new Map(),
    }];
  }
  const unchecked: CheckOptions = {
    reference: asMetadata(open),
    referenceLabel: "the source itself",
    kind: "declared",
    tied: new Map(),
  };
  if (nameCheck === "off") return [unchecked];
  const models = servedModels(servers);
  const found = await Promise.all(models.map(async ({ modelPath, tokenizerPath, dtype, url }) => {
    const model = await readModel(modelPath, tokenizerPath, signal).catch((error) => {
      if (nameCheck !== "where_possible" || !(error instanceof UnreadableModelError)) throw error;
      request.options.logger.warn(`${error.problem}; they are sent unchecked`);
    });
    if (model === undefined) return undefined;
    return {
      reference: await withServedTypes(model.names, { modelPath, tokenizerPath, dtype, signal }),
      referenceLabel: models.length === 1
        ? `the servers' model ${modelPath}`
        : `the model ${modelPath} of ${url}`,
      kind: "model",
      tied: tiedWeights ?? tiedHead(model, open),
    } as const;
  }));
  const readable = found.filter((model) => model !== undefined);
  return readable.length === 0 ? [unchecked] : readable;
}

/** The folder of the servers' model is not here, so the names cannot be compared with it. */
export class UnreadableModelError extends ValidationError {
  /** What could not be done and why, without what to do about it. */
  readonly problem: string;
  /** Makes the error. */
  constructor(modelPath: string, cause: Error) {
    const problem = "The names of the weights could not be checked, because the servers' model " +
      `"${modelPath}" cannot be read here (${cause.message}); a server ignores unknown names ` +
      "without a word";
    super(
      `${problem}. Give the expected weights to initAllWorkersGroup(), for example ` +
        'await metadataOf(safetensors(folder)), or set nameCheck: "where_possible" or "off"',
      { cause },
    );
    this.problem = problem;
  }
}

/** A model, and the first server that has it. */
interface ServedModel {
  readonly url: string;
  readonly modelPath: string;
  readonly tokenizerPath: string | null;
  readonly dtype: DType | undefined;
}

/** What the servers said that they serve when they were probed, each model once. */
function servedModels(servers: readonly FleetServer[]): ServedModel[] {
  const models = new Map<string, ServedModel>();
  for (const { url, dtype, served } of servers) {
    const key = JSON.stringify([served.modelPath, served.tokenizerPath, dtype]);
    if (!models.has(key)) models.set(key, { url, ...served, dtype });
  }
  return [...models.values()];
}

/** Types that `--dtype` replaces; quantised weights keep theirs. */
const PLAIN_FLOATS: readonly DType[] = ["float64", "float32", "float16", "bfloat16"];

/**
 * The model's weights in the types that a server holds: what `--dtype` says, else the types of the
 * checkpoint that it began with. An update from disk makes its folder the model's path, but the
 * memory stays what it was.
 */
async function withServedTypes(
  names: ModelMetadata,
  model: {
    readonly modelPath: string;
    readonly tokenizerPath: string | null;
    readonly dtype: DType | undefined;
    readonly signal: AbortSignal | undefined;
  },
): Promise<ModelMetadata> {
  const { modelPath, tokenizerPath, dtype, signal } = model;
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
    // Whether it is here is not known before it may be read.
    if (cause.code === "permission") throw cause;
    throw new UnreadableModelError(modelPath, cause);
  }
}

async function readFolder(path: string, signal: AbortSignal | undefined): Promise<Model> {
  await using checkpoint = await openCheckpoint(path, { signal });
  const names = new Map(
    [...checkpoint.tensors.values()].map(({ name, dtype, shape }) => [name, { dtype, shape }]),
  );
  return { names, isTied: await isHeadTied(path, signal) };
}

/** A config is a few kilobytes; more is none. */
const MAX_CONFIG_BYTES = 1024 * 1024;

/** What a model's `config.json` says; one that cannot be read says nothing, so not tied. */
async function isHeadTied(folder: string, signal: AbortSignal | undefined): Promise<boolean> {
  const path = join(folder, "config.json");
  try {
    const bytes = await readRegularFile(path, {
      refuse: (message) => new CheckpointError(message),
      limit: "configBytes",
      maxBytes: MAX_CONFIG_BYTES,
      signal,
    });
    const config = parseStrictJson(bytes, path) as {
      text_config?: { tie_word_embeddings?: unknown };
      tie_word_embeddings?: unknown;
    };
    return (config?.text_config ?? config)?.tie_word_embeddings === true ||
      config?.tie_word_embeddings === true;
  } catch {
    return false;
  }
}
