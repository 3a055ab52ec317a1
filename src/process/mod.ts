/**
 * Child process trees that cannot be orphaned, and ports for them.
 *
 * @module
 */
export { type ProcessExit, ProcessTree, type ProcessTreeOptions } from "./process_tree.ts";
export { getOpenPort, PortLease, type PortLeaseOptions, reservePorts } from "./ports.ts";
