/** What a way to write calls of tools is. */
import type { Reading } from "./answer.ts";
import type { ParameterKinds } from "./parameter_kinds.ts";
import type { Scanner } from "./scanner.ts";

/**
 * Names of the ways in which model families write calls of tools; most are those of SGLang's
 * or vLLM's `--tool-call-parser`.
 */
export type ToolCallFormat =
  | "hermes"
  | "qwen3_coder"
  | "mistral"
  | "deepseekv3"
  | "deepseekv32"
  | "kimi_k2"
  | "llama3"
  | "pythonic"
  | "lfm2"
  | "phi4"
  | "gemma4"
  | "nemotron"
  | "cohere_command4"
  | "minimax-m2"
  | "muse"
  | "deepseekv4"
  | "dots"
  | "step3"
  | "seed_oss"
  | "hunyuan_a13b"
  | "interns1"
  | "granite-20b-fc"
  | "apertus2509"
  | "olmo3"
  | "functiongemma"
  | "command_r"
  | "phi4_mini_json"
  | "gpt-oss";

/** A way to write calls that have a mark of their own. */
export interface CallFormat {
  /** Its name. */
  readonly name: ToolCallFormat;
  /** What a call begins with. */
  readonly opens: readonly string[];
  /** Reads what begins at a place. */
  read(scanner: Scanner, at: number, open: string, kinds: ParameterKinds): Reading;
}
