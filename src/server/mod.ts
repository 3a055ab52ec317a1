/**
 * One SGLang server that we start and own.
 *
 * @module
 */
export { assignGpus, type GpuAssignmentOptions } from "./gpus.ts";
export type { SGLangServerFlags, SGLangServerOptions } from "./options.ts";
export { makeSGLangServer, SGLangServer } from "./server.ts";
export { getOpenPort } from "../process/mod.ts";
export type { FlagValue, LaunchProgress, ProcessExit } from "../process/mod.ts";
