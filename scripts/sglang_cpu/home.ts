/** Where the real SGLang for tests is installed. */
import { join } from "node:path";
import { testedVersions } from "../../src/client/capabilities.ts";
import { SetupError } from "./setup_error.ts";

/** Versions of SGLang that there is a recipe for. */
export const sglangVersions = testedVersions;

/** One of {@linkcode sglangVersions}. */
export type SGLangVersion = (typeof sglangVersions)[number];

/**
 * The version of this number.
 *
 * @throws {SetupError} There is no recipe for it.
 */
export function sglangVersion(name: string): SGLangVersion {
  const version = sglangVersions.find((known) => known === name);
  if (version !== undefined) return version;
  throw new SetupError(
    `There is no recipe for SGLang "${name}", only for ${sglangVersions.join(" and ")}. ` +
      'CONTRIBUTING.md tells how one is added ("Recipe: an SGLang version")',
  );
}

/** Whether a test's name tells of a version of {@linkcode sglangVersions} that is not `version`. */
export function namesOtherVersion(name: string, version: SGLangVersion): boolean {
  const told: readonly string[] = name.match(/\d+(?:\.\d+)+/g) ?? [];
  return sglangVersions.some((known) => known !== version && told.includes(known));
}

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
