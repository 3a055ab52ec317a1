import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { ValidationError } from "../errors.ts";

/** How many GPUs a server takes, and from which. */
export interface GpuAssignmentOptions {
  /** Number of servers on this host. */
  readonly replicas: number;
  /** Tensor-parallel ranks of a server. Default 1. */
  readonly tpSize?: number | undefined;
  /** Pipeline stages of a server. Default 1. */
  readonly ppSize?: number | undefined;
  /** Data-parallel copies in a server. Default 1. */
  readonly dpSize?: number | undefined;
  /** With data-parallel attention the copies share the tensor-parallel GPUs. Default `false`. */
  readonly enableDpAttention?: boolean | undefined;
  /** The GPUs to hand out. Default 0, 1, 2 and so on. */
  readonly gpus?: readonly (number | string)[] | undefined;
  /** First of them to use. Default 0. */
  readonly firstGpu?: number | undefined;
}

/** The names of all of them. */
export const GPU_ASSIGNMENT_NAMES = {
  replicas: true,
  tpSize: true,
  ppSize: true,
  dpSize: true,
  enableDpAttention: true,
  gpus: true,
  firstGpu: true,
} as const satisfies OptionNames<GpuAssignmentOptions>;

/**
 * The GPUs of each server: neighbours, `tpSize * ppSize * dpSize` for each, none twice.
 *
 * @example
 * ```ts
 * import { assignGpus } from "@sglang-rl/sglang-rl/server";
 *
 * console.log(assignGpus({ replicas: 2, tpSize: 2 })); // [[0, 1], [2, 3]]
 * ```
 *
 * @throws {ValidationError} When `gpus` are too few or hold one twice.
 */
export function assignGpus(options: GpuAssignmentOptions): (number | string)[][] {
  checkOptionNames(options, GPU_ASSIGNMENT_NAMES, "assignGpus()");
  const { replicas, tpSize = 1, ppSize = 1, dpSize = 1, firstGpu = 0, gpus } = options;
  for (const [name, value] of Object.entries({ replicas, tpSize, ppSize, dpSize })) {
    if (Number.isInteger(value) && value >= 1) continue;
    throw new ValidationError(`\`${name}\` must be a whole number from 1, not ${value}`);
  }
  if (!Number.isInteger(firstGpu) || firstGpu < 0) {
    throw new ValidationError(`\`firstGpu\` must be a whole number from 0, not ${firstGpu}`);
  }
  const each = tpSize * ppSize * (options.enableDpAttention ? 1 : dpSize);
  const needed = firstGpu + replicas * each;
  if (gpus !== undefined && new Set(gpus.map(String)).size !== gpus.length) {
    throw new ValidationError(`\`gpus\` names a GPU twice: ${gpus.join(", ")}`);
  }
  if (gpus !== undefined && gpus.length < needed) {
    throw new ValidationError(
      `${replicas} servers with ${each} GPUs each, from GPU ${firstGpu} on, need ${needed} GPUs; ` +
        `\`gpus\` has ${gpus.length}`,
    );
  }
  const all = gpus ?? Array.from({ length: needed }, (_, i) => i);
  return Array.from({ length: replicas }, (_, i) => {
    const start = firstGpu + i * each;
    return all.slice(start, start + each);
  });
}
