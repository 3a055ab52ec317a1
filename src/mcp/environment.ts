import { checkOptionNames, onlyNamed, type OptionNames } from "../internal/option_names.ts";
import type { Environment } from "../collector/environment.ts";
import { toolEnvironment, type ToolEnvironmentOptions } from "../collector/environments/tools.ts";
import { UnreachableError } from "../errors.ts";
import {
  connectMcp,
  MCP_OPTION_NAMES,
  type McpConnection,
  type McpOptions,
  type McpServer,
  serverName,
} from "./tools.ts";

/** Options of {@linkcode mcpEnvironment}. */
export interface McpEnvironmentOptions<Task>
  extends Omit<ToolEnvironmentOptions<Task>, "tools">, McpOptions {
  /** The servers by name. */
  readonly servers: Readonly<Record<string, McpServer>>;
}

const NAMES = {
  servers: true,
  prompts: true,
  promptOf: true,
  reward: true,
  toolTurnReward: true,
  system: true,
  tools: true,
  connectTimeoutMs: true,
  callTimeoutMs: true,
  answerChars: true,
  answerBytes: true,
  maxTools: true,
  signal: true,
} as const satisfies OptionNames<McpEnvironmentOptions<never>>;

/**
 * An environment whose tools are those of MCP servers, found by themselves. Each environment has
 * connections of its own, made at its first dialog and closed with it, so that the dialogs of a pool
 * do not share a server's state; to share them, give the tools of one `connectMcp` to
 * `toolEnvironment`.
 *
 * What a tool throws, and a call beyond its deadline, is told to the model. A server that ends during
 * a dialog fails the dialog, which the collector may run again; one that no longer answers before the
 * next dialog is connected to anew.
 *
 * @example
 * ```ts
 * import { EnvironmentPool } from "@sglang-rl/sglang-rl/environments";
 * import { mcpEnvironment } from "@sglang-rl/sglang-rl/mcp";
 *
 * const pool = new EnvironmentPool(() =>
 *   mcpEnvironment({
 *     servers: { search: { url: "http://127.0.0.1:8000/mcp" } },
 *     prompts: ["Who wrote Faust?"],
 *     reward: ({ message }) => String(message.content).includes("Goethe") ? 1 : 0,
 *   }), { size: 8 });
 * ```
 */
export function mcpEnvironment<Task>(options: McpEnvironmentOptions<Task>): Environment {
  checkOptionNames(options, NAMES, "mcpEnvironment()");
  const mcp = onlyNamed(options, MCP_OPTION_NAMES);
  const { servers, prompts, promptOf, reward, toolTurnReward, system } = options;
  let connection: McpConnection | null = null;
  let inner: Environment | null = null;
  const close = async () => {
    await connection?.[Symbol.asyncDispose]();
    connection = null;
    inner = null;
  };
  return {
    async reset(task) {
      if (connection !== null && !await connection.isAlive({ signal: task.signal })) await close();
      if (inner === null) {
        connection = await connectMcp(servers, { ...mcp, signal: task.signal });
        inner = toolEnvironment({
          prompts,
          promptOf,
          reward,
          toolTurnReward,
          system,
          tools: connection.tools,
        });
      }
      return await inner.reset(task);
    },
    async step(action) {
      const step = await inner!.step(action);
      const { lost } = connection!;
      // What the model was told of it is no answer of a tool.
      if (lost.length === 0 || step.done) return step;
      throw new UnreachableError(`MCP server "${lost[0]}" ended during a dialog`, {
        url: serverName(servers[lost[0]!]!),
      });
    },
    close,
  };
}
