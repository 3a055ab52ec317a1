/**
 * Tools of MCP servers for a policy.
 *
 * @module
 */
export { mcpEnvironment, type McpEnvironmentOptions } from "./environment.ts";
export {
  connectMcp,
  type HttpServer,
  type McpConnection,
  type McpOptions,
  type McpServer,
  type StdioServer,
} from "./tools.ts";
