import type { ServerInfo } from "../client/types.ts";
import { UnsupportedError, ValidationError } from "../errors.ts";
import type { AdapterSettings } from "./peft_config.ts";

/** What a server tells of the adapters that it takes. */
export interface AdapterServerFacts {
  /** Address of the server. */
  readonly url: string;
  /** Tensor-parallel ranks. */
  readonly ranks: number;
  /** Largest rank; `null` where it is not told. */
  readonly maxRank: number | null;
  /** Modules that adapters may change, by the names that it groups them under; `null`: all. */
  readonly targets: ReadonlySet<string> | null;
  /** Most adapters that it keeps; `null` without a limit. */
  readonly maxLoaded: number | null;
}

/**
 * Reads what `/server_info` tells of adapters.
 *
 * @throws {UnsupportedError} The server takes none.
 */
export function adapterFactsOf(url: string, info: ServerInfo): AdapterServerFacts {
  const { raw, dpSize } = info;
  if (raw.enable_lora !== true) {
    throw new UnsupportedError(
      `${url} takes no adapters: start it with --enable-lora, --max-lora-rank and ` +
        "--lora-target-modules (enableLora, maxLoraRank, loraTargetModules)",
    );
  }
  if (dpSize !== 1) {
    throw new UnsupportedError(
      `${url} has --dp-size ${dpSize}: SGLang loads adapters only with 1. Start replicas instead`,
    );
  }
  return {
    url,
    ranks: info.tpSize,
    maxRank: numberOf(raw.max_lora_rank),
    targets: targetsOf(raw.lora_target_modules),
    maxLoaded: numberOf(raw.max_loaded_loras),
  };
}

/**
 * Refuses an adapter that a server would refuse, or would end by.
 *
 * @throws {ValidationError} Its rank or a target is not what the server was started for.
 */
export function checkAgainstServer(
  adapter: { readonly settings: AdapterSettings; readonly targets: readonly string[] },
  facts: AdapterServerFacts,
  keep: number,
): void {
  const { url, maxRank, targets, maxLoaded } = facts;
  const { rank } = adapter.settings;
  if (maxRank !== null && rank > maxRank) {
    throw new ValidationError(
      `The adapter has rank ${rank}, and ${url} takes at most ${maxRank} (--max-lora-rank)`,
    );
  }
  const strange = targets === null
    ? []
    : adapter.targets.filter((target) => !targets.has(groupOf(target)));
  if (strange.length > 0) {
    throw new ValidationError(
      `The adapter changes ${strange.join(", ")}, and ${url} was started for ` +
        `${[...targets!].join(", ")} (--lora-target-modules)`,
    );
  }
  if (maxLoaded !== null && keep + 1 > maxLoaded) {
    throw new ValidationError(
      `keep: ${keep} needs room for ${keep + 1} adapters, and ${url} keeps ${maxLoaded} ` +
        "(--max-loaded-loras): it would drop one that is in use",
    );
  }
}

/** Names under which SGLang computes several modules as one (`srt/lora/utils.py`). */
const GROUP: Readonly<Record<string, string>> = {
  q_proj: "qkv_proj",
  k_proj: "qkv_proj",
  v_proj: "qkv_proj",
  gate_proj: "gate_up_proj",
  up_proj: "gate_up_proj",
  q_a_proj: "fused_qkv_a_proj_with_mqa",
  kv_a_proj_with_mqa: "fused_qkv_a_proj_with_mqa",
};

function groupOf(target: string): string {
  return GROUP[target] ?? target;
}

function targetsOf(value: unknown): ReadonlySet<string> | null {
  if (!Array.isArray(value)) return null;
  const names = value.filter((name): name is string => typeof name === "string");
  if (names.length === 0 || names.includes("all") || names.includes("all-linear")) return null;
  return new Set(names.map((name) => groupOf(name.slice(name.lastIndexOf(".") + 1))));
}

function numberOf(value: unknown): number | null {
  return typeof value === "number" ? value : null;
}
