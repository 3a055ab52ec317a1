import { checkOptionNames, onlyGiven, type OptionNames } from "../internal/option_names.ts";
import type { PolicyVersion } from "../collector/policy_version.ts";
import type { RolloutRow } from "../collector/row.ts";
import { ValidationError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import { requireSendableKey } from "../internal/same_secret.ts";
import type { Logger } from "../internal/logger.ts";
import type { LLMWrapperOptions } from "../policy/wrapper/options.ts";
import type { AnySGLangWrapper, EngineSource } from "../policy/wrapper/sglang_wrapper.ts";
import type { GatewaySession } from "./gateway_session.ts";

/** What a gateway counted. */
export interface GatewayStats {
  /** Sessions that are open. */
  readonly sessions: number;
  /** Answers that are under way. */
  readonly running: number;
  /** Answers that were recorded. */
  readonly turns: number;
  /** Requests that were refused. */
  readonly refused: number;
}

/** How much one session may use. */
export interface SessionLimits {
  /** Most answers. Default 1000. */
  readonly maxTurns: number;
  /** Most tokens of prompts and answers together. Default 16,777,216. */
  readonly maxTokens: number;
  /** Most requests at once, from their heads until they are answered; more get 429. Default 64. */
  readonly maxConcurrent: number;
  /** Longest life in milliseconds. Default 24 hours. */
  readonly maxMs: number;
  /** A session of which nothing is heard for this long ends. Default 30 minutes. */
  readonly idleMs: number;
}

/** What the gateway bears. */
export interface GatewayLimits {
  /** Most sessions at once; more are refused with 429. Default 10,000. */
  readonly maxSessions: number;
  /** Most requests for answers at once; more are refused with 429. Default 4096. */
  readonly maxConcurrent: number;
  /** Longest body of a request, in bytes. Default 4 MiB, some million tokens. */
  readonly maxBodyBytes: number;
  /** Deepest nesting of a body. Default 128. */
  readonly maxDepth: number;
  /** Most objects and lists in a body. Default 50,000. */
  readonly maxObjects: number;
  /** Most names of fields in a body, of all its objects together. Default 50,000. */
  readonly maxNames: number;
  /** Most items in a body: what commas part, such as the ids of a prompt. Default 1,048,576. */
  readonly maxItems: number;
  /** Most texts in a body, names of fields too. Default 200,000. */
  readonly maxTexts: number;
  /** Most messages or items of a conversation. Default 5000. */
  readonly maxMessages: number;
  /** Most parts or blocks of one message, and calls of tools. Default 1000. */
  readonly maxParts: number;
  /** Most tools. Default 1024. */
  readonly maxTools: number;
  /** Most texts, tokens or expressions that end an answer, of each kind. Default 64. */
  readonly maxStops: number;
  /** Most tokens in `logit_bias`. Default 4096. */
  readonly maxLogitBias: number;
  /** Longest name of a model, a tool or a speaker, longest id, longest text that ends an answer, in characters. Default 1024. */
  readonly maxNameLength: number;
  /** Most answers to one prompt, `n`. Default 64. */
  readonly maxSamples: number;
  /**
   * Most connections at once. One more ends the one that idles longest; where none idles it is ended
   * itself. Default 8192.
   */
  readonly maxConnections: number;
  /** Most requests that a connection may have before their answers are read. Default 64. */
  readonly maxPipelined: number;
  /** How long the head of a request may take to come, in milliseconds. Default 30 seconds. */
  readonly headTimeoutMs: number;
  /** How long a body may take to come, in milliseconds. Default 60 seconds. */
  readonly bodyTimeoutMs: number;
  /** How long a client may read nothing of a stream, in milliseconds. Default 60 seconds. */
  readonly slowReadMs: number;
}

/** Options of {@linkcode RecordingGateway.listen}. */
export interface GatewayOptions {
  /** Port to listen on. Default 0: a free one. */
  readonly port?: number | undefined;
  /** Address to listen on. Default `127.0.0.1`. */
  readonly hostname?: string | undefined;
  /**
   * Key for opening and looking at sessions. Beyond loopback there is always one: without it a random
   * one is made, see {@linkcode RecordingGateway.adminKey}. On loopback the default is none.
   */
  readonly adminKey?: string | undefined;
  /**
   * Policies and adapters by the name that agents give as `model`. With it a request for any other
   * name is refused; without it every name means the one policy.
   */
  readonly models?: Readonly<Record<string, ServedModel>> | undefined;
  /** How the policy renders and samples, where an engine or an address is given and not a wrapper. */
  readonly policy?: LLMWrapperOptions | undefined;
  /** Most new tokens of an answer whose request and policy name no limit. Default 1024. */
  readonly defaultMaxTokens?: number | undefined;
  /** What the gateway bears; what is left out has its default. */
  readonly limits?: Partial<GatewayLimits> | undefined;
  /** What one session may use; what is left out has its default. */
  readonly sessionLimits?: Partial<SessionLimits> | undefined;
  /**
   * Asked before each answer: seconds to wait, told as 429 with `Retry-After`, or `null` to go on. It
   * lets a trainer hold agents back whose rows would be too old; `stalenessLimit()` makes one.
   */
  readonly holdBack?:
    | ((asked: { readonly session: GatewaySession; readonly stats: GatewayStats }) => number | null)
    | undefined;
  /** Told of each session that ended, with its rows. */
  readonly onSession?: ((ended: EndedSession) => void) | undefined;
  /** Closes the gateway. */
  readonly signal?: AbortSignal | undefined;
  /** Where it reports. Default nowhere. */
  readonly logger?: Logger | undefined;
  /** The time to use. */
  readonly clock?: Clock | undefined;
}

/** Options of {@linkcode RecordingGateway.open}. */
export interface SessionOptions {
  /** What this session may use; what is left out is as the gateway has it. */
  readonly limits?: Partial<SessionLimits> | undefined;
  /** Kept in each row. */
  readonly info?: Readonly<Record<string, unknown>> | undefined;
  /** Which dialog the rows belong to. Default: the number of the session, alone in its group. */
  readonly dialog?: Partial<DialogNumbers> | undefined;
  /** Tells which policy version made which ids. */
  readonly versions?: PolicyVersion | null | undefined;
}

/** The names of all of them. */
export const SESSION_OPTION_NAMES = {
  limits: true,
  info: true,
  dialog: true,
  versions: true,
} as const satisfies OptionNames<SessionOptions>;

/** Which dialog of a collector a session is. */
export interface DialogNumbers {
  /** Number of the dialog. */
  readonly dialog: number;
  /** Which try it is. */
  readonly attempt: number;
  /** The group that it belongs to. */
  readonly group: number;
  /** Which member of the group it is. */
  readonly member: number;
  /** Index of the environment. */
  readonly environment: number;
}

/** Why a session ended. */
export type SessionEnd =
  /** Its agent, or who opened it, said so. */
  | "ended"
  /** It was given up: its rows are told all the same, marked as truncated. */
  | "aborted"
  /** Nothing was heard of it for `idleMs`. */
  | "idle"
  /** It lived for `maxMs`. */
  | "time"
  /** The gateway closed. */
  | "closed";

/** A session that ended. */
export interface EndedSession {
  /** Its id. */
  readonly id: string;
  /** Why it ended. */
  readonly end: SessionEnd;
  /** What it was worth: the sum of its rows' rewards. */
  readonly reward: number;
  /** One row for each answer, with `parent` and `branch`. */
  readonly rows: readonly RolloutRow[];
}

/**
 * A model that agents ask for by name: a policy, or a LoRA adapter of the one that the gateway was
 * given. `"left"` means the newest version of the adapter, `"left@3"` just that one.
 */
export type ServedModel = AnySGLangWrapper | { readonly lora: string };

/** What {@linkcode RecordingGateway.listen} serves: a policy, an engine, or an address. */
export type GatewaySource = AnySGLangWrapper | EngineSource;

const OPTION_NAMES = {
  port: true,
  hostname: true,
  adminKey: true,
  models: true,
  policy: true,
  defaultMaxTokens: true,
  limits: true,
  sessionLimits: true,
  holdBack: true,
  onSession: true,
  signal: true,
  logger: true,
  clock: true,
} as const satisfies OptionNames<GatewayOptions>;

const GATEWAY_LIMITS: GatewayLimits = {
  maxSessions: 10_000,
  maxConcurrent: 4096,
  maxBodyBytes: 4 * 2 ** 20,
  maxDepth: 128,
  maxObjects: 50_000,
  maxNames: 50_000,
  maxItems: 2 ** 20,
  maxTexts: 200_000,
  maxMessages: 5000,
  maxParts: 1000,
  maxTools: 1024,
  maxStops: 64,
  maxLogitBias: 4096,
  maxNameLength: 1024,
  maxSamples: 64,
  maxPipelined: 64,
  maxConnections: 8192,
  headTimeoutMs: 30_000,
  bodyTimeoutMs: 60_000,
  slowReadMs: 60_000,
};

const SESSION_LIMITS: SessionLimits = {
  maxTurns: 1000,
  maxTokens: 2 ** 24,
  maxConcurrent: 64,
  maxMs: 24 * 3_600_000,
  idleMs: 30 * 60_000,
};

/**
 * Checks options.
 *
 * @throws {ValidationError} An option is unknown or out of range.
 */
export function checkGatewayOptions(options: GatewayOptions): {
  readonly limits: GatewayLimits;
  readonly sessionLimits: SessionLimits;
} {
  checkOptionNames(options, OPTION_NAMES, "RecordingGateway.listen()");
  const { adminKey, defaultMaxTokens } = options;
  requireSendableKey("adminKey", adminKey);
  if (adminKey !== undefined && adminKey.length < 8) {
    throw new ValidationError("adminKey must have at least 8 characters");
  }
  if (defaultMaxTokens !== undefined) requireLimit("defaultMaxTokens", defaultMaxTokens);
  return {
    limits: withDefaults(options.limits, GATEWAY_LIMITS, "limits"),
    sessionLimits: sessionLimits(options.sessionLimits, SESSION_LIMITS),
  };
}

/**
 * Limits of a session.
 *
 * @throws {ValidationError} A limit is unknown or out of range.
 */
export function sessionLimits(
  given: Partial<SessionLimits> | undefined,
  defaults: SessionLimits,
): SessionLimits {
  return withDefaults(given, defaults, "limits of a session");
}

function withDefaults<Limits extends object>(
  given: Partial<Limits> = {},
  defaults: Limits,
  owner: string,
): Limits {
  const known = Object.fromEntries(Object.keys(defaults).map((name) => [name, true as const]));
  checkOptionNames(given, known, owner);
  const changed = onlyGiven(given);
  for (const [name, value] of Object.entries(changed)) requireLimit(name, value);
  return { ...defaults, ...changed };
}

function requireLimit(name: string, value: unknown): void {
  if (typeof value === "number" && value >= 1) return;
  throw new ValidationError(`${name} must be a number of at least 1, got ${String(value)}`);
}
