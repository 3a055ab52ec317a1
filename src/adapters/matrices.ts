import { type DType, type TensorInfo, tensorSizeBytes } from "../checkpoint/dtype.ts";
import { UnsupportedError, ValidationError } from "../errors.ts";
import { nearestName } from "../internal/suggest.ts";
import type { TensorBytes } from "../weights/ipc/by_value.ts";

/** The two matrices of one module: `A` is `(rank, inputs)`, `B` is `(outputs, rank)`. */
export interface MatrixPair {
  readonly a: TensorBytes;
  readonly b: TensorBytes;
}

/** Shapes of the base model's weights by name; `"model.layers.0.mlp.up_proj.weight"`. */
export type BaseShapes = ReadonlyMap<string, { readonly shape: readonly number[] }>;

/** Matrices by the module's path: `"model.layers.0.self_attn.q_proj"`. */
export type Matrices = ReadonlyMap<string, MatrixPair>;

const PREFIX = "base_model.model.";
const NAME = /^(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.[^.]+)?\.weight$/;
const DTYPES: readonly DType[] = ["float32", "float16", "bfloat16"];

/** A matrix of an adapter by its name in PEFT's files or state dict. */
export function matrixOf(name: string): { module: string; side: "a" | "b" } {
  const match = NAME.exec(name);
  if (match === null) {
    throw new UnsupportedError(
      `"${name}" is no matrix of a LoRA layer: names end in ".lora_A.weight" or ".lora_B.weight". ` +
        "Embeddings, biases, magnitudes and whole modules are not served from an adapter",
    );
  }
  return { module: match[1]!, side: match[2] === "A" ? "a" : "b" };
}

/** Whether a file has the names that a server reads by itself. */
export function isServerName(name: string): boolean {
  return name.startsWith(PREFIX) && /\.lora_[AB]\.weight$/.test(name);
}

/**
 * Pairs the tensors of an adapter.
 *
 * @throws {ValidationError} One of a pair is missing, its type or rank is not what it must be.
 */
export function pairMatrices(tensors: readonly TensorBytes[], rank: number): Matrices {
  if (tensors.length === 0) throw new ValidationError("The adapter holds no tensor");
  const halves = new Map<string, { a?: TensorBytes; b?: TensorBytes }>();
  for (const tensor of tensors) {
    const { module, side } = matrixOf(tensor.name);
    const pair = halves.get(module) ?? {};
    if (pair[side] !== undefined) {
      throw new ValidationError(`The adapter has two matrices ${side.toUpperCase()} of ${module}`);
    }
    pair[side] = tensor;
    halves.set(module, pair);
  }
  const pairs = new Map<string, MatrixPair>();
  for (const [module, { a, b }] of halves) {
    if (a === undefined || b === undefined) {
      const there = a === undefined ? "B" : "A";
      throw new ValidationError(`The adapter has only the matrix ${there} of ${module}`);
    }
    checkMatrix(a, rank, 0);
    checkMatrix(b, rank, 1);
    pairs.set(module, { a, b });
  }
  return pairs;
}

function checkMatrix({ name, dtype, shape }: TensorInfo, rank: number, rankAxis: 0 | 1): void {
  if (!DTYPES.includes(dtype)) {
    throw new ValidationError(`"${name}" is ${dtype}; adapters are float32, float16 or bfloat16`);
  }
  if (shape.length !== 2) {
    throw new UnsupportedError(
      `"${name}" has the shape [${shape.join(", ")}]; only matrices are served, experts one by one`,
    );
  }
  if (shape[rankAxis] === rank) return;
  throw new ValidationError(
    `"${name}" has the shape [${shape.join(", ")}] and so the rank ${shape[rankAxis]}, but the ` +
      `configuration says r = ${rank}`,
  );
}

/**
 * Checks every pair against the base model. A server copies a matrix of a wrong shape at its first
 * use and ends by it, so nothing is sent that does not fit.
 *
 * @throws {ValidationError} A module is not there, or has other sizes.
 */
export function checkShapes(matrices: Matrices, base: BaseShapes): void {
  for (const [module, { a, b }] of matrices) {
    const weight = base.get(`${module}.weight`);
    if (weight === undefined) {
      const modules = [...base.keys()].map((name) => name.replace(/\.weight$/, ""));
      const near = nearestName(module, modules);
      throw new ValidationError(
        `The adapter changes "${module}", which the base model does not have` +
          (near === undefined ? "" : `; did you mean "${near}"?`),
      );
    }
    const [outputs, inputs] = weight.shape;
    if (weight.shape.length === 2 && a.shape[1] === inputs && b.shape[0] === outputs) continue;
    throw new ValidationError(
      `The adapter's matrices of "${module}" are for ${a.shape[1]} inputs and ${
        b.shape[0]
      } outputs; ` +
        `the base model's weight has the shape [${weight.shape.join(", ")}]`,
    );
  }
}

/** Modules that a server computes as one: of each group it asks for these or none. */
const GROUPS: readonly { readonly of: RegExp; readonly needs: readonly string[] }[] = [
  { of: /\.(q_proj|k_proj|v_proj)$/, needs: ["q_proj", "k_proj", "v_proj"] },
  { of: /\.(gate_proj|up_proj)$/, needs: ["gate_proj", "up_proj"] },
];

/**
 * Adds matrices of zeros where a server asks for a whole group: with only `k_proj` it would end at the
 * first use. Zeros change nothing.
 *
 * @throws {ValidationError} The sizes of what is missing are not known.
 */
export function completeGroups(matrices: Matrices, base: BaseShapes | undefined): Matrices {
  const complete = new Map(matrices);
  for (const [module, { a, b }] of matrices) {
    const group = GROUPS.find(({ of }) => of.test(module));
    if (group === undefined) continue;
    const parent = module.slice(0, module.lastIndexOf("."));
    for (const leaf of group.needs) {
      const path = `${parent}.${leaf}`;
      if (complete.has(path)) continue;
      const shape = base?.get(`${path}.weight`)?.shape;
      if (shape === undefined) {
        if (leaf === "k_proj" && complete.has(`${parent}.v_proj`)) continue;
        throw new ValidationError(
          `The adapter has "${module}" and not "${path}", which the server computes together, and ` +
            "the base model's sizes are not known here. Give baseFolder",
        );
      }
      complete.set(path, {
        a: zeros({ name: `${PREFIX}${path}.lora_A.weight`, dtype: a.dtype, shape: a.shape }),
        b: zeros({
          name: `${PREFIX}${path}.lora_B.weight`,
          dtype: b.dtype,
          shape: [shape[0]!, b.shape[1]!],
        }),
      });
    }
  }
  return complete;
}

/** The tensors with the names that servers know. */
export function tensorsOf(matrices: Matrices): TensorBytes[] {
  return [...matrices].flatMap(([module, { a, b }]) => [
    { ...a, name: `${PREFIX}${module}.lora_A.weight` },
    { ...b, name: `${PREFIX}${module}.lora_B.weight` },
  ]);
}

/** Last parts of the modules' paths, each once, in order. */
export function targetsOf(matrices: Matrices): string[] {
  return [...new Set(Array.from(matrices.keys(), (path) => path.slice(path.lastIndexOf(".") + 1)))]
    .sort();
}

function zeros(info: TensorInfo): TensorBytes {
  return { ...info, bytes: new Uint8Array(tensorSizeBytes(info)) };
}
