/**
 * What a policy answers: environments of prompts and of tools, environments of one's own, and
 * several of them that run each at its own pace.
 *
 * @module
 */
export * from "../environment.ts";
export * from "../pool.ts";
export {
  promptEnvironment,
  type PromptEnvironmentOptions,
  type PromptTask,
  type TaskOptions,
  type TaskSource,
} from "./prompts.ts";
export { type Tool, toolEnvironment, type ToolEnvironmentOptions } from "./tools.ts";
