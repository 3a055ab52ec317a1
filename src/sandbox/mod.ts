/**
 * Code that a model wrote, run without permissions and within limits.
 *
 * @module
 */
export { sandboxEnvironment, type SandboxEnvironmentOptions } from "./environment.ts";
export {
  runSandboxed,
  type SandboxEnding,
  type SandboxLimits,
  type SandboxOptions,
  type SandboxResult,
} from "./run_sandboxed.ts";
