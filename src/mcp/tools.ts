import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import type { Client } from "@modelcontextprotocol/sdk/client/index.js";
import type { Tool } from "../collector/environments/tools.ts";
import { LimitError, SGLangError, UnreachableError, ValidationError } from "../errors.ts";
import { withDeadline } from "../internal/deadline.ts";
import { messageOf } from "../internal/thrown.ts";
import { version } from "../internal/version.ts";

/** Longest answer of a server that is read. */
const ANSWER_BYTES = 16 * 2 ** 20;

/** An MCP server to be started, which speaks on its standard input and output. */
export interface StdioServer {
  /** The program. Needs `--allow-run` of it. */
  readonly command: string;
  /** Its arguments. */
  readonly args?: readonly string[] | undefined;
  /** Its environment, besides what every program gets (`PATH`, `HOME` and the like). */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Its working folder. */
  readonly cwd?: string | undefined;
}

/** An MCP server that runs, reached by streamable HTTP. */
export interface HttpServer {
  /** Its address. Needs `--allow-net` of it. */
  readonly url: string | URL;
  /** Headers of every request, for example a key. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/** How to reach an MCP server. */
export type McpServer = StdioServer | HttpServer;

/** Options of {@linkcode connectMcp}. */
export interface McpOptions {
  /** The tools that the model gets. Default: all. */
  readonly tools?: readonly string[] | undefined;
  /** Deadline of the connection with its list of tools, in milliseconds. Default 30 000. */
  readonly connectTimeoutMs?: number | undefined;
  /** Deadline of one call, in milliseconds. Default 30 000. */
  readonly callTimeoutMs?: number | undefined;
  /** Longest answer that the model gets, in characters; longer ones are cut. Default 20 000. */
  readonly answerChars?: number | undefined;
  /** Longest answer that is read of a server, in bytes. Default 16 MiB. */
  readonly answerBytes?: number | undefined;
  /** Most tools of all servers. Default 256. */
  readonly maxTools?: number | undefined;
  /** Ends the connecting. */
  readonly signal?: AbortSignal | undefined;
}

/** The names of all of them. */
export const MCP_OPTION_NAMES = {
  tools: true,
  connectTimeoutMs: true,
  callTimeoutMs: true,
  answerChars: true,
  answerBytes: true,
  maxTools: true,
  signal: true,
} as const satisfies OptionNames<McpOptions>;

/** Connections to MCP servers, and their tools as a `toolEnvironment` takes them. */
export interface McpConnection extends AsyncDisposable {
  /** The tools by name; where two servers have one name, the server's name and `__` come before it. */
  readonly tools: Readonly<Record<string, Tool>>;
  /** Servers whose process or connection has ended, by name; of those over HTTP nothing is known. */
  readonly lost: readonly string[];
  /** Asks every server whether it is still there, by a ping within `connectTimeoutMs`. */
  isAlive(options?: { readonly signal?: AbortSignal | undefined }): Promise<boolean>;
}

/**
 * Connects to MCP servers by the official SDK (`@modelcontextprotocol/sdk`, loaded here) and lists
 * their tools. Disposing of it ends the servers that it started.
 *
 * @throws {UnreachableError} A server does not start or answer.
 * @throws {ValidationError} A server lacks one of the named tools, or there are too many.
 *
 * @example
 * ```ts ignore
 * await using mcp = await connectMcp({ files: { command: "mcp-server-files", args: ["./data"] } });
 * console.log(Object.keys(mcp.tools));
 * ```
 */
export async function connectMcp(
  servers: Readonly<Record<string, McpServer>>,
  options: McpOptions = {},
): Promise<McpConnection> {
  checkOptionNames(options, MCP_OPTION_NAMES, "MCP servers");
  const { connectTimeoutMs = 30_000, answerBytes = ANSWER_BYTES, signal } = options;
  const links: Link[] = [];
  const close = async () => void await Promise.all(links.map(closed));
  try {
    const found: FoundTool[] = [];
    for (const [name, server] of Object.entries(servers)) {
      const client = await connect(name, server, {
        links,
        timeoutMs: connectTimeoutMs,
        answerBytes,
        signal,
      });
      found.push(...await listTools(name, client, options));
    }
    return {
      tools: chosen(found, options),
      get lost() {
        return links.filter(({ isLost }) => isLost).map(({ name }) => name);
      },
      async isAlive({ signal } = {}) {
        const answers = links.map((link) => answersPing(link, connectTimeoutMs, signal));
        return (await Promise.all(answers)).every(Boolean);
      },
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** What of the SDK's answers is used; the SDK has checked them. */
interface ToolPage {
  readonly tools: readonly {
    readonly name: string;
    readonly description?: string;
    readonly inputSchema: Readonly<Record<string, unknown>>;
  }[];
  readonly nextCursor?: string;
}

interface ToolAnswer {
  readonly content?: readonly { readonly type: string; readonly text?: string }[];
  readonly isError?: boolean;
}

/** A client, and when its connection or its process is gone. */
interface Link {
  readonly name: string;
  /** Whether its end was seen. */
  isLost: boolean;
  readonly client: Client;
  readonly ended: Promise<void>;
  /** Whether a process of ours runs at its other end. */
  isProcess(): boolean;
}

interface FoundTool {
  readonly server: string;
  readonly name: string;
  readonly tool: Tool;
}

async function connect(
  name: string,
  server: McpServer,
  { links, timeoutMs, answerBytes, signal }: {
    readonly links: Link[];
    readonly timeoutMs: number;
    readonly answerBytes: number;
    readonly signal: AbortSignal | undefined;
  },
): Promise<Client> {
  const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
  // Only the text of an answer is used. Its other form is checked by nobody: the schema is the
  // server's, and its patterns and depth would be work of this process.
  const jsonSchemaValidator = {
    getValidator: <T>() => (input: unknown) => ({
      valid: true as const,
      data: input as T,
      errorMessage: undefined,
    }),
  };
  const client = new Client({ name: "sglang-rl", version }, { jsonSchemaValidator });
  const transport = "command" in server
    ? await stdio(server, answerBytes)
    : await http(server, answerBytes);
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  const isProcess = () => "pid" in transport && transport.pid !== null;
  const link: Link = { name, client, ended, isLost: false, isProcess };
  client.onclose = () => {
    link.isLost = true;
    resolve();
  };
  links.push(link);
  try {
    await withDeadline(
      { phase: `connect to MCP server "${name}"`, timeoutMs, signal },
      (waiting) => client.connect(transport, { signal: waiting, timeout: timeoutMs }),
    );
  } catch (error) {
    if (error instanceof SGLangError) throw error;
    throw new UnreachableError(`MCP server "${name}" cannot be reached: ${messageOf(error)}`, {
      url: serverName(server),
      cause: error,
    });
  }
  return client;
}

/** Where a server is: its program or its address. */
export function serverName(server: McpServer): string {
  return "command" in server ? server.command : String(server.url);
}

/** The code of JSON-RPC for a method that is not known: who says so is there. */
const METHOD_NOT_FOUND = -32601;

async function answersPing(
  { name, client, isLost }: Link,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  if (isLost) return false;
  try {
    await withDeadline(
      { phase: `ping of MCP server "${name}"`, timeoutMs, signal },
      (waiting) => client.ping({ signal: waiting, timeout: timeoutMs }),
    );
    return true;
  } catch (error) {
    signal?.throwIfAborted();
    return (error as { code?: unknown }).code === METHOD_NOT_FOUND;
  }
}

async function stdio({ command, args, env, cwd }: StdioServer, answerBytes: number) {
  const { StdioClientTransport, getDefaultEnvironment } = await import(
    "@modelcontextprotocol/sdk/client/stdio.js"
  );
  return new StdioClientTransport({
    command,
    args: [...args ?? []],
    env: { ...getDefaultEnvironment(), ...env },
    stderr: "ignore",
    maxBufferSize: answerBytes,
    ...cwd === undefined ? {} : { cwd },
  });
}

async function http({ url, headers }: HttpServer, answerBytes: number) {
  const { StreamableHTTPClientTransport } = await import(
    "@modelcontextprotocol/sdk/client/streamableHttp.js"
  );
  const transport = new StreamableHTTPClientTransport(new URL(url), {
    requestInit: { headers: { ...headers } },
    fetch: (input: string | URL, init?: RequestInit) => fetchAtMost(answerBytes, input, init),
  });
  // The SDK's own type does not allow for exact optional properties.
  return transport as Parameters<Client["connect"]>[0];
}

/** `fetch` whose answer fails where it gets too long, so that no server fills the memory. */
async function fetchAtMost(
  max: number,
  input: string | URL,
  init: RequestInit = {},
): Promise<Response> {
  // The SDK wants the web's fetch, and would take it by itself.
  // deno-lint-ignore sglang-rl/own-http-in-src
  const response = await fetch(input, init);
  if (response.body === null) return response;
  let seen = 0;
  const counted = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
    transform(chunk, controller) {
      seen += chunk.length;
      if (seen <= max) return controller.enqueue(chunk);
      controller.error(
        new LimitError(
          `An answer of the MCP server at ${input} is longer than answerBytes, ${max}`,
          {
            limit: "answerBytes",
            max,
          },
        ),
      );
    },
  });
  return new Response(response.body.pipeThrough(counted), response);
}

async function listTools(
  server: string,
  client: Client,
  options: McpOptions,
): Promise<FoundTool[]> {
  const { connectTimeoutMs: timeoutMs = 30_000, signal } = options;
  const phase = `tools of MCP server "${server}"`;
  // One deadline for all pages: a server may say for ever that there is another.
  return await withDeadline(
    { phase, timeoutMs, signal },
    (waiting) => listPages(server, client, options, waiting),
  );
}

async function listPages(
  server: string,
  client: Client,
  options: McpOptions,
  waiting: AbortSignal,
): Promise<FoundTool[]> {
  const { maxTools = 256, connectTimeoutMs: timeout = 30_000 } = options;
  const found: FoundTool[] = [];
  let cursor: string | undefined;
  do {
    waiting.throwIfAborted();
    const page = await client.listTools(
      cursor === undefined ? {} : { cursor },
      { signal: waiting, timeout },
    ) as ToolPage;
    for (const { name, description = "", inputSchema } of page.tools) {
      const call: Tool["call"] = (args, { signal }) =>
        callTool(client, { name, args, signal }, options);
      found.push({ server, name, tool: { description, parameters: inputSchema, call } });
    }
    if (found.length > maxTools) {
      throw new ValidationError(
        `MCP server "${server}" has more than ${maxTools} tools: raise maxTools, or name those ` +
          "that are wanted in tools",
      );
    }
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  return found;
}

async function callTool(
  client: Client,
  { name, args, signal }: { name: string; args: unknown; signal: AbortSignal },
  { callTimeoutMs: timeoutMs = 30_000, answerChars = 20_000 }: McpOptions,
): Promise<string> {
  const result = await withDeadline(
    { phase: `MCP tool ${name}`, timeoutMs, signal },
    (waiting) =>
      client.callTool(
        { name, arguments: args as Record<string, unknown> ?? {} },
        undefined,
        { signal: waiting, timeout: timeoutMs },
      ),
  ) as ToolAnswer;
  const parts = result.content ?? [];
  const text = parts.map((part) => part.type === "text" ? part.text : `[${part.type}]`).join("\n");
  const isCut = text.length > answerChars;
  const answer = isCut ? `${text.slice(0, answerChars)}\n[cut at ${answerChars} characters]` : text;
  if (result.isError === true) throw new Error(answer);
  return answer;
}

function chosen(found: readonly FoundTool[], options: McpOptions): Record<string, Tool> {
  const isTwice = (name: string) => found.filter((other) => other.name === name).length > 1;
  const named = found.map(({ server, name, tool }) =>
    [isTwice(name) ? `${server}__${name}` : name, tool] as const
  );
  const all = Object.fromEntries(named);
  if (options.tools === undefined) return all;
  return Object.fromEntries(options.tools.map((name) => {
    if (Object.hasOwn(all, name)) return [name, all[name]!];
    throw new ValidationError(
      `No MCP server has the tool "${name}": ${Object.keys(all).join(", ")}`,
    );
  }));
}

/**
 * A server that was started is ended by the SDK: by the end of its input, then by signals. The SDK
 * begins that by itself when a connection fails, and then waits for nobody.
 */
async function closed({ client, ended, isProcess }: Link): Promise<void> {
  const waits = isProcess();
  try {
    await withDeadline({ phase: "end of an MCP server", timeoutMs: 10_000 }, async () => {
      await client.close();
      if (waits) await ended;
    });
  } catch { /* It is gone, or will not go: nothing more can be done. */ }
}
