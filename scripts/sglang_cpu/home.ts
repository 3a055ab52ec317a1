/** Where the real SGLang for tests is installed. */
import { join } from "node:path";
import { testedVersions } from "../../src/client/capabilities.ts";

/** Versions of SGLang that there is a recipe for. */
export const sglangVersions = testedVersions;

/** One of {@linkcode sglangVersions}. */
export type SGLangVersion = (typeof sglangVersions)[number];

/** The tiny checkpoints: two random Qwen2, two random Llama, and a Qwen3-MoE with eight experts. */
export const tinyModels = ["tiny", "tiny1", "llama0", "llama1", "moe"] as const;

/** One of {@linkcode tinyModels}. */
export type TinyModel = (typeof tinyModels)[number];

/** `$SGLANG_CPU_HOME`, or a folder in the user's cache. */
export function sglangHome(): string {
  const home = Deno.env.get("SGLANG_CPU_HOME");
  if (home) return home;
  const cache = Deno.env.get("XDG_CACHE_HOME") || join(Deno.env.get("HOME") ?? ".", ".cache");
  return join(cache, "sglang-rl", "sglang-cpu");
}

/** Name of the virtual environment of a version, inside the home. */
export function environmentName(version: SGLangVersion): string {
  return version === "0.5.16" ? "venv" : `venv-${version}`;
}

/** Name of the router's virtual environment, inside the home. */
export const routerEnvironmentName = "rvenv";
