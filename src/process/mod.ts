/**
 * Child process trees that cannot be orphaned, and ports for them.
 *
 * @module
 */
export type { ProcessExit, ProcessTreeOptions } from "./options.ts";
export { ProcessTree } from "./process_tree.ts";
export {
  getOpenPort,
  isPortFree,
  PortLease,
  type PortLeaseOptions,
  reservePorts,
  untilPortFree,
} from "./ports.ts";
export { flagName, flagsToArgs, type FlagValue } from "./flags.ts";
export { crashedError, type LaunchProgress, type ReadyOptions, waitUntilReady } from "./ready.ts";
export { type ModuleCommand, moduleCommand } from "./secret_args.ts";
export { pastProxy } from "./past_proxy.ts";
export { findPython } from "./python.ts";
