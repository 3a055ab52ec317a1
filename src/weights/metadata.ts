import { openCheckpoint } from "../checkpoint/reader.ts";
import { SGLangError, ValidationError } from "../errors.ts";
import type { CheckOptions, ModelMetadata } from "./check.ts";
import type { ResolvedOptions } from "./options.ts";
import type { FleetServer } from "./server.ts";
import type { OpenWeightSource, WeightSource } from "./source/source.ts";

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
      tied: tiedWeights,
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
  return {
    reference: await readModel(modelPath, tokenizerPath, signal),
    referenceLabel: `the servers' model ${modelPath}`,
    kind: "model",
    tied: tiedWeights,
  };
}

/**
 * Reads the names from the model's folder, or from the tokenizer's: an update from disk makes its
 * folder the model's path, and that may be gone since; the tokenizer stays where the server began.
 */
async function readModel(
  modelPath: string,
  tokenizerPath: string | null,
  signal: AbortSignal | undefined,
): Promise<ModelMetadata> {
  try {
    return await readNames(modelPath, signal);
  } catch (cause) {
    if (!(cause instanceof SGLangError) || cause.code === "aborted") throw cause;
    const second = tokenizerPath === null || tokenizerPath === modelPath
      ? undefined
      : await readNames(tokenizerPath, signal).catch(() => undefined);
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

async function readNames(path: string, signal: AbortSignal | undefined): Promise<ModelMetadata> {
  await using checkpoint = await openCheckpoint(path, { signal });
  return new Map(
    [...checkpoint.tensors.values()].map(({ name, dtype, shape }) => [name, { dtype, shape }]),
  );
}
