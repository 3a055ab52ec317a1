/**
 * A recording gateway: agents that are written for OpenAI's or Anthropic's API run unchanged against
 * an engine, and every answer becomes a row, id for id.
 *
 * @module
 */
export { RecordingGateway } from "./gateway.ts";
export type { GatewaySession } from "./gateway_session.ts";
export { GatewayRefusal, type RefusalParts } from "./fault.ts";
export type { RecordedTurn } from "./recorded_turn.ts";
export type { ShownAnswer, ShownCall } from "./asked.ts";
export type {
  DialogNumbers,
  EndedSession,
  GatewayLimits,
  GatewayOptions,
  GatewaySource,
  GatewayStats,
  ServedModel,
  SessionEnd,
  SessionLimits,
  SessionOptions,
} from "./options.ts";
export {
  agentEnvironment,
  type AgentEnvironmentOptions,
  AgentError,
  type AgentOutcome,
  type AgentTask,
  type RunAgent,
} from "./agent_environment.ts";
export { agentCommand, type AgentCommandOptions } from "./agent_command.ts";
export { stalenessLimit, type StalenessLimitOptions } from "./staleness_limit.ts";
