import { checkOptionNames, type OptionNames } from "../../src/internal/option_names.ts";
import { CrashedError, StateError } from "../../src/errors.ts";
import { withDeadline } from "../../src/internal/deadline.ts";
import { readLines } from "../../src/internal/lines.ts";
import { type Logger, silentLogger } from "../../src/internal/logger.ts";
import { asPermissionError } from "../../src/internal/permission.ts";
import { fromPlainError } from "../nccl/protocol.ts";
import { decodeMessage, encodeMessage, LINE_MARK } from "./frames.ts";
import type { KeeperMessage, OwnerMessage, Will } from "./messages.ts";
import { type RemoteOptions, RemoteRank } from "./remote_rank.ts";

/** What a {@linkcode Keeper} is started with. */
export interface KeeperOptions {
  /** Longest wait for its start. Default 30 s. */
  readonly timeoutMs?: number | undefined;
  /** Cancels the start. */
  readonly signal?: AbortSignal | undefined;
  /** Hears what happens. */
  readonly logger?: Logger | undefined;
}

const NAMES = {
  timeoutMs: true,
  signal: true,
  logger: true,
} as const satisfies OptionNames<KeeperOptions>;

/** What Deno refuses to hand on under a scoped `--allow-run`. */
const REFUSED_VARIABLES = ["LD_LIBRARY_PATH", "LD_PRELOAD"] as const;
/** Streams beyond the default 8 would wait for each other, also for one whose server is frozen. */
const ENVIRONMENT = {
  CUDA_DEVICE_MAX_CONNECTIONS: "32",
  NO_COLOR: "1",
  // Its calls go to servers at given addresses, never to a proxy of the environment.
  http_proxy: "",
  HTTP_PROXY: "",
  https_proxy: "",
  HTTPS_PROXY: "",
  all_proxy: "",
  ALL_PROXY: "",
};

/** Opens a rank in a keeper; for groups and stages alone. */
export let openRankIn: (keeper: Keeper, options: RemoteOptions) => Promise<RemoteRank>;

/**
 * A process that holds ranks for this one and outlives it: when this process is killed, it lets the
 * ranks' peers go and makes the calls of the will.
 *
 * Permissions: `--allow-run=<this Deno>`. The keeper itself gets `--allow-ffi`, `--allow-read`,
 * `--allow-net` and the three variables of the libraries.
 */
export class Keeper implements AsyncDisposable {
  static {
    openRankIn = (keeper, options) => keeper.#openRank(options);
  }

  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #logger: Logger;
  readonly #pending = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #ready = Promise.withResolvers<void>();
  readonly #ended: Promise<void>;
  #nextId = 1;
  #nextRank = 0;
  #end: Error | undefined;

  private constructor(child: Deno.ChildProcess, logger: Logger) {
    this.#child = child;
    this.#writer = child.stdin.getWriter();
    this.#logger = logger;
    this.#ready.promise.catch(() => {});
    this.#ended = this.#follow();
  }

  /**
   * Starts the process.
   *
   * @throws {PermissionError} Deno may not run itself.
   * @throws {CrashedError} It ended at once.
   * @throws {TimeoutError} It did not start in time.
   */
  static async start(options: KeeperOptions = {}): Promise<Keeper> {
    checkOptionNames(options, NAMES, "a keeper");
    const { timeoutMs = 30_000, signal, logger = silentLogger } = options;
    const keeper = new Keeper(spawn(), logger);
    try {
      await withDeadline(
        { phase: "start the keeper of the ranks", timeoutMs, signal },
        () => keeper.#ready.promise,
      );
      return keeper;
    } catch (error) {
      await keeper.close();
      throw error;
    }
  }

  /** Why it can no longer be used, when it cannot. */
  get ended(): Error | undefined {
    return this.#end;
  }

  async #openRank(options: RemoteOptions): Promise<RemoteRank> {
    return await RemoteRank.open(
      this.#nextRank++,
      (message, queued) => this.#ask(message, queued),
      options,
    );
  }

  /** Sets what is to become of a server if this process is killed; in order with all requests. */
  async setWill(will: Will): Promise<void> {
    if (this.#end === undefined) await this.#write({ kind: "will", will });
  }

  /** Ends the process; its ranks must have been closed. */
  async close(): Promise<void> {
    if (this.#end === undefined) await this.#write({ kind: "bye" }).catch(() => {});
    this.#fail(new StateError("The keeper was closed"));
    const late = setTimeout(() => this.#kill(), 5_000);
    await this.#ended;
    clearTimeout(late);
  }

  /** The same as {@linkcode Keeper.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #ask(
    message: DistributiveOmit<AskedMessage, "id">,
    queued?: () => void,
  ): Promise<unknown> {
    if (this.#end !== undefined) {
      return Promise.reject(
        new StateError(`The keeper has ended: ${this.#end.message}`, { cause: this.#end }),
      );
    }
    const id = this.#nextId++;
    const pending = Promise.withResolvers<unknown>();
    this.#pending.set(id, pending);
    this.#write({ ...message, id } as OwnerMessage).then(queued, (error) => pending.reject(error));
    return pending.promise;
  }

  async #write(message: OwnerMessage): Promise<void> {
    await this.#writer.write(new TextEncoder().encode(encodeMessage(message) + "\n"));
  }

  /** Reads all that the process writes, to its end. */
  async #follow(): Promise<void> {
    const complaints: string[] = [];
    const readAnswers = async () => {
      for await (const line of readLines(this.#child.stdout)) this.#hear(line);
    };
    const readErrors = async () => {
      for await (const line of readLines(this.#child.stderr)) {
        complaints.splice(0, Math.max(0, complaints.length - 19));
        complaints.push(line);
        this.#logger.debug(`Keeper: ${line}`);
      }
    };
    await Promise.allSettled([readAnswers(), readErrors()]);
    const { code, signal } = await this.#child.status;
    this.#fail(
      new CrashedError(
        `The keeper of the ranks ended with ${signal ?? `code ${code}`}: ${complaints.join("\n")}`,
        { exitCode: code, logTail: complaints.join("\n") },
      ),
    );
    await this.#writer.close().catch(() => {});
  }

  #hear(line: string): void {
    if (!line.startsWith(LINE_MARK)) {
      if (line !== "") this.#logger.debug(`Keeper: ${line}`);
      return;
    }
    const message = decodeMessage(line.slice(LINE_MARK.length)) as KeeperMessage;
    if (message.kind === "ready") return this.#ready.resolve();
    if (message.kind === "log") return this.#logger.debug(`Keeper: ${message.text}`);
    const pending = this.#pending.get(message.id);
    this.#pending.delete(message.id);
    if (message.ok) pending?.resolve(message.value);
    else pending?.reject(fromPlainError(message.error));
  }

  #fail(error: Error): void {
    this.#end ??= error;
    this.#ready.reject(error);
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }

  #kill(): void {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
  }
}

type AskedMessage = Exclude<OwnerMessage, { kind: "will" } | { kind: "bye" }>;
type DistributiveOmit<T, K extends string> = T extends unknown ? Omit<T, K> : never;

/** Sends a message to the keeper; `queued` is called once it cannot be lost any more. */
export type Ask = (
  message: DistributiveOmit<AskedMessage, "id">,
  queued?: () => void,
) => Promise<unknown>;

function spawn(): Deno.ChildProcess {
  const scoped = Deno.permissions.querySync({ name: "run" }).state !== "granted";
  const blanked = scoped ? REFUSED_VARIABLES : [];
  const deno = Deno.execPath();
  try {
    return new Deno.Command(deno, {
      args: [
        ...["run", "--quiet", "--no-prompt", "--no-lock", "--no-config", "--no-check"],
        ...["--allow-ffi", "--allow-read", "--allow-net"],
        "--allow-env=SGLANG_RL_NCCL,SGLANG_RL_CUDART,SGLANG_RL_CUDA",
        import.meta.resolve("./main.ts"),
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
      // A session of its own: neither Ctrl-C nor a kill of our process group reaches it.
      detached: true,
      env: { ...ENVIRONMENT, ...Object.fromEntries(blanked.map((name) => [name, ""])) },
    }).spawn();
  } catch (error) {
    throw asPermissionError(error, `--allow-run=${deno}`, `run ${deno}`);
  }
}
