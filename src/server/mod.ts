/**
 * One SGLang server that we start and own.
 *
 * @module
 */
export type { FlagValue } from "./flags.ts";
export { assignGpus, type GpuAssignmentOptions } from "./gpus.ts";
export type { LaunchProgress, SglangServerFlags, SglangServerOptions } from "./options.ts";
export { makeSglangServer, SglangServer } from "./server.ts";
export type { ProcessExit } from "../process/mod.ts";
