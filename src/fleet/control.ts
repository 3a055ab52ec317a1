import { SGLangError, TimeoutError, ValidationError } from "../errors.ts";
import { withDeadline } from "../internal/deadline.ts";
import { jsonExcess } from "../internal/json.ts";
import { asListenError } from "../internal/listen_error.ts";
import { Answers } from "../internal/serve_http.ts";
import { hasBearerKey, requireSendableKey } from "../internal/same_secret.ts";
import { messageOf } from "../internal/thrown.ts";
import type { SupervisedServer } from "./supervised.ts";
import type { FleetSupervisor } from "./supervisor.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";

/** Options of {@linkcode FleetControl.start}. */
export interface FleetControlOptions {
  /** Port to listen on. Default a free one. */
  readonly port?: number | undefined;
  /** Key that every call must carry as `authorization: Bearer KEY`. Default none. */
  readonly key?: string | undefined;
  /** The process of a server, when it is known. */
  readonly processOf?:
    | ((
      url: string,
    ) => { readonly pid: number | undefined; readonly logFile: string | undefined } | undefined)
    | undefined;
  /** Told when somebody has synced the fleet from a checkpoint. */
  readonly onSynced?: ((sync: SyncedFleet) => Promise<void>) | undefined;
}

const OPTION_NAMES = {
  port: true,
  key: true,
  processOf: true,
  onSynced: true,
} as const satisfies OptionNames<FleetControlOptions>;

/** What a sync from outside tells the supervisor of a fleet. */
export interface SyncedFleet {
  /** The version that all servers were given. */
  readonly version: string;
  /**
   * Folder or file of the checkpoint, as this machine sees it; `null` after a sync of a part, whose
   * weights lie in no folder whole.
   */
  readonly checkpoint: string | null;
  /** The servers that were synced. */
  readonly servers: readonly string[];
}

/** A server as a control endpoint tells it. */
export interface ControlledServer extends SupervisedServer {
  /** Id of its process, where it is known. */
  readonly pid: number | null;
  /** File with its log, where it is known. */
  readonly logFile: string | null;
}

/** Most bytes of a request. */
const BODY_LIMIT = 65_536;
/** Longest wait for one. */
const BODY_MS = 10_000;

/**
 * Lets other processes of this machine see and steer a supervised fleet over HTTP, on 127.0.0.1
 * only: `GET /fleet`, `POST /restart`, `/drain`, `/undrain`, `/retire` with `{"url": …}`, and
 * `POST /synced`. The commands `drain`, `restart`, `logs` and `sync` of the command line use it.
 *
 * Needs `--allow-net=127.0.0.1`.
 */
export class FleetControl implements AsyncDisposable {
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #answers: Answers;

  private constructor(server: Deno.HttpServer<Deno.NetAddr>, answers: Answers) {
    this.#server = server;
    this.#answers = answers;
  }

  /**
   * Begins to listen.
   *
   * @throws {ValidationError} The key holds what a header cannot carry.
   * @throws {StateError} The port is taken.
   * @throws {PermissionError} Deno may not listen.
   */
  static start(supervisor: FleetSupervisor, options: FleetControlOptions = {}): FleetControl {
    checkOptionNames(options, OPTION_NAMES, "FleetControl.start()");
    const { port = 0 } = options;
    requireSendableKey("The key of the control endpoint", options.key);
    const hostname = "127.0.0.1";
    const answers = new Answers();
    try {
      const server = Deno.serve(
        { port, hostname, signal: answers.signal, onListen() {} },
        (request) => answers.make(() => answer(request, supervisor, options)),
      );
      return new FleetControl(server, answers);
    } catch (error) {
      throw asListenError(error, { hostname, port });
    }
  }

  /** Address. */
  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}`;
  }

  /** Listens no more; calls under way are answered first, within two seconds. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#answers.end();
    await this.#server.finished;
  }
}

async function answer(
  request: Request,
  supervisor: FleetSupervisor,
  options: FleetControlOptions,
): Promise<Response> {
  const refusal = refuse(request, options.key);
  if (refusal !== undefined) return refusal;
  const { pathname } = new URL(request.url);
  try {
    if (request.method === "GET" && pathname === "/fleet") {
      return Response.json(fleetOf(supervisor, options));
    }
    if (request.method !== "POST") return problem(404, "There is no such page");
    const body = await readBody(request);
    await steer(pathname, { body, supervisor, options });
    return Response.json(fleetOf(supervisor, options));
  } catch (error) {
    const isTheirs = error instanceof ValidationError;
    return problem(isTheirs ? 400 : error instanceof SGLangError ? 409 : 500, messageOf(error));
  }
}

function fleetOf(
  { servers, router }: FleetSupervisor,
  { processOf }: FleetControlOptions,
): { servers: ControlledServer[]; router: ControlledServer | null } {
  const told = (server: SupervisedServer) => {
    const { pid = null, logFile = null } = processOf?.(server.url) ?? {};
    return { ...server, pid, logFile };
  };
  return { servers: servers.map(told), router: router === undefined ? null : told(router) };
}

/** Who may not ask: pages in a browser, other machines under a borrowed name, wrong keys. */
function refuse(request: Request, key: string | undefined): Response | undefined {
  // A `Host` that is none makes no address.
  const hostname = URL.parse(request.url)?.hostname;
  if (hostname !== "127.0.0.1" && hostname !== "localhost") {
    return problem(403, "Call it as 127.0.0.1");
  }
  if (request.headers.get("origin") !== null) return problem(403, "Not from a browser");
  const isJson = request.headers.get("content-type")?.startsWith("application/json");
  if (request.method === "POST" && !isJson) return problem(415, "Send application/json");
  if (key === undefined || hasBearerKey(request, key)) return;
  return problem(401, "The key is missing or wrong");
}

function problem(status: number, message: string): Response {
  return Response.json({ error: message }, { status });
}

async function readBody(request: Request): Promise<Readonly<Record<string, unknown>>> {
  const length = Number(request.headers.get("content-length") ?? Infinity);
  if (!(length <= BODY_LIMIT)) {
    throw new ValidationError(`A request must tell its length, of at most ${BODY_LIMIT} bytes`);
  }
  try {
    const timeoutMs = BODY_MS;
    const text = await withDeadline(
      { phase: "body of a request", timeoutMs },
      () => request.text(),
    );
    if (jsonExcess(text) !== null) throw new SyntaxError("nested");
    const body: unknown = JSON.parse(text);
    if (typeof body === "object" && body !== null) return body as Record<string, unknown>;
  } catch (error) {
    if (error instanceof TimeoutError) throw error;
    // Told below.
  }
  throw new ValidationError("The body must be a JSON object");
}

interface Steering {
  readonly body: Readonly<Record<string, unknown>>;
  readonly supervisor: FleetSupervisor;
  readonly options: FleetControlOptions;
}

async function steer(path: string, { body, supervisor, options }: Steering): Promise<void> {
  const url = () => text(body, "url");
  switch (path) {
    case "/restart":
      return await supervisor.restart(url(), { force: body.force === true });
    case "/drain":
      return await supervisor.drain(url());
    case "/undrain":
      return supervisor.undrain(url());
    case "/retire":
      return supervisor.retire(url());
    case "/synced": {
      const servers = body.servers;
      if (!Array.isArray(servers) || !servers.every((one) => typeof one === "string")) {
        throw new ValidationError('"servers" must be a list of addresses');
      }
      await options.onSynced?.({
        version: text(body, "version"),
        checkpoint: body.checkpoint === null ? null : text(body, "checkpoint"),
        servers,
      });
      return;
    }
    default:
      throw new ValidationError(`There is no ${path}`);
  }
}

function text(body: Readonly<Record<string, unknown>>, name: string): string {
  const value = body[name];
  if (typeof value === "string" && value !== "") return value;
  throw new ValidationError(`"${name}" must be a text`);
}
