/**
 * Code that a model wrote, run with the permissions given and within limits.
 *
 * @module
 */
export { sandboxEnvironment, type SandboxEnvironmentOptions } from "./environment.ts";
export {
  runSandboxed,
  type SandboxEnding,
  type SandboxLimits,
  type SandboxOptions,
  type SandboxPermissions,
  type SandboxResult,
} from "./run_sandboxed.ts";
