import type { DraftChoice } from "./fleet/draft.ts";
import type { PauseMode } from "../client/types.ts";
import type { OpenGroup } from "../collective/group.ts";
import { ValidationError } from "../errors.ts";
import { type Clock, systemClock } from "../internal/clock.ts";
import { grantedEnv } from "../internal/permission.ts";
import { type Logger, silentLogger } from "../internal/logger.ts";
import { checkOneOf, checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { resolveDeadlines, type WeightDeadlines } from "./deadlines.ts";
import type {
  DiskOptions,
  FieldsOfTransport,
  GivenOptions,
  NameCheck,
  NcclLibraries,
  VerifyLevel,
  WeightStrategy,
} from "./options.ts";
import type { FiniteChoice } from "./sync/finite.ts";
import { DEFAULT_BUCKET_BYTES } from "./sync/plan.ts";
import { type OpenTransport, TRANSPORT_NAMES, type TransportName } from "./transport/transport.ts";

const WEIGHT_SYNC_NAMES = {
  serverUrl: true,
  engine: true,
  workers: true,
  apiKey: true,
  adminApiKey: true,
  headers: true,
  proxy: true,
  caCerts: true,
  masterAddress: true,
  masterPort: true,
  bindAddress: true,
  numWorkers: true,
  rank: true,
  device: true,
  serversSeeDevice: true,
  strategy: true,
  transport: true,
  nccl: true,
  openGroup: true,
  disk: true,
  bucketBytes: true,
  flattened: true,
  castFloat32To: true,
  pauseMode: true,
  flushCache: true,
  verify: true,
  nameCheck: true,
  tiedWeights: true,
  whenBusy: true,
  soleTrainer: true,
  whenUnreachable: true,
  whenMissed: true,
  whenPaused: true,
  deadlines: true,
  logger: true,
  env: true,
  clock: true,
  trainer: true,
  finite: true,
  draft: true,
  isolation: true,
  keeper: true,
} as const satisfies OptionNames<GivenOptions>;

const DISK_NAMES = {
  folder: true,
  serverFolder: true,
  keep: true,
} as const satisfies OptionNames<DiskOptions>;

const NCCL_NAMES = {
  nccl: true,
  cudart: true,
  cuda: true,
  python: true,
} as const satisfies OptionNames<NcclLibraries>;

/** A server dies of NaN at its next request, so also who proves little looks at what costs little. */
const FINITE_BY_VERIFY = {
  off: false,
  version: "where_small",
  sample: "where_possible",
  checksum: "where_possible",
} as const satisfies Record<VerifyLevel, FiniteChoice>;

/** The options with every default filled in. */
export interface ResolvedOptions {
  readonly apiKey: string | undefined;
  readonly adminApiKey: string | undefined;
  readonly headers: Readonly<Record<string, string>> | undefined;
  readonly proxy: string | undefined;
  readonly caCerts: readonly string[] | undefined;
  readonly masterAddress: string | undefined;
  readonly masterPort: number | undefined;
  readonly bindAddress: string | undefined;
  readonly numWorkers: number | undefined;
  readonly rank: number;
  readonly device: number;
  readonly strategy: WeightStrategy;
  readonly transport: TransportName | "auto" | OpenTransport;
  readonly nccl: NcclLibraries | undefined;
  readonly openGroup: OpenGroup | undefined;
  readonly disk: DiskOptions | undefined;
  readonly isolation: "server" | "fleet";
  readonly draft: DraftChoice;
  readonly keeper: boolean | undefined;
  readonly bucketBytes: number;
  readonly flattened: boolean;
  readonly castFloat32To: "bfloat16" | undefined;
  readonly pauseMode: PauseMode;
  /** `undefined`: always in mode abort, else if idle. */
  readonly flushCache: boolean | undefined;
  readonly verify: VerifyLevel;
  readonly nameCheck: NameCheck;
  readonly tiedWeights: ReadonlyMap<string, string> | undefined;
  /** `"where_possible"`: weights in memory of a GPU are let through, and the report says so. */
  readonly finite: FiniteChoice;
  readonly whenBusy: "wait" | "throw";
  readonly soleTrainer: boolean;
  readonly whenUnreachable: "throw" | "skip";
  readonly whenMissed: "keep_paused" | "resume";
  /** `undefined`: kept, but for what a trainer that was killed may have left. */
  readonly whenPaused: "keep" | "resume" | undefined;
  readonly deadlines: WeightDeadlines;
  readonly trainer: string | undefined;
  readonly logger: Logger;
  readonly clock: Clock;
}

const PAUSE_ENV = "TORCHRL_SGLANG_PAUSE_GENERATION_MODE";
const FLUSH_ENV = "TORCHRL_SGLANG_WEIGHT_SYNC_FLUSH_CACHE";

/** Checks the options and fills in the defaults. */
export function resolveOptions(options: GivenOptions): ResolvedOptions {
  checkOptionNames(options, WEIGHT_SYNC_NAMES, "a weight sync");
  checkOptionNames(options.disk ?? {}, DISK_NAMES, "`disk`");
  checkOptionNames(options.nccl ?? {}, NCCL_NAMES, "`nccl`");
  const logger = options.logger ?? silentLogger;
  const env = options.env ?? grantedEnv;
  const { pauseMode, flushCache } = resolvePause(options, env, logger);
  const deadlines = resolveDeadlines(options.deadlines);
  requireOneOf("strategy", options.strategy, ["tensordict", "state_dict"]);
  if (typeof options.transport !== "function") {
    requireOneOf("transport", options.transport, ["auto", ...TRANSPORT_NAMES]);
  }
  checkTransportOptions(options);
  if (options.transport === "cuda-ipc" && options.serversSeeDevice !== true) {
    throw new ValidationError(
      'transport "cuda-ipc" needs serversSeeDevice: true, your word that every server sees the GPU ' +
        "that this process uses: a server that does not, as with another CUDA_VISIBLE_DEVICES, dies",
    );
  }
  requireOneOf("verify", options.verify, ["version", "sample", "checksum", "off"]);
  const verify = options.verify ?? "version";
  requireOneOf("nameCheck", options.nameCheck, ["servers", "where_possible", "off"]);
  requireOneOf("whenBusy", options.whenBusy, ["wait", "throw"]);
  requireOneOf("whenUnreachable", options.whenUnreachable, ["throw", "skip"]);
  requireOneOf("whenMissed", options.whenMissed, ["keep_paused", "resume"]);
  requireOneOf("whenPaused", options.whenPaused, ["keep", "resume"]);
  requireOneOf("isolation", options.isolation, ["server", "fleet"]);
  requireOneOf("draft", options.draft, ["update", "keep"]);
  requireOneOf("castFloat32To", options.castFloat32To, ["bfloat16"]);
  if (options.trainer !== undefined && !/^[^:~\s]{1,200}$/.test(options.trainer)) {
    throw new ValidationError(
      `trainer must be a name of 1 to 200 characters without ":", "~" and blanks, got ` +
        JSON.stringify(options.trainer),
    );
  }
  requireWhole("masterPort", options.masterPort, { from: 1, to: 65535 });
  requireWhole("numWorkers", options.numWorkers, { from: 1, to: 1_000_000 });
  requireWhole("rank", options.rank, { from: 0, to: 1_000_000 });
  requireWhole("bucketBytes", options.bucketBytes, { from: 1, to: Number.MAX_SAFE_INTEGER });
  return {
    apiKey: options.apiKey,
    adminApiKey: options.adminApiKey,
    headers: options.headers,
    proxy: options.proxy,
    caCerts: options.caCerts,
    masterAddress: options.masterAddress,
    masterPort: options.masterPort,
    bindAddress: options.bindAddress,
    numWorkers: options.numWorkers,
    rank: options.rank ?? 0,
    device: parseDevice(options.device),
    strategy: options.strategy ?? "tensordict",
    transport: options.transport ?? "auto",
    nccl: options.nccl,
    openGroup: options.openGroup,
    disk: options.disk,
    isolation: options.isolation ?? "server",
    draft: options.draft ?? "update",
    keeper: options.keeper,
    bucketBytes: options.bucketBytes ?? DEFAULT_BUCKET_BYTES,
    flattened: options.flattened ?? true,
    castFloat32To: options.castFloat32To,
    pauseMode,
    flushCache,
    verify,
    nameCheck: options.nameCheck ?? "servers",
    tiedWeights: options.tiedWeights && new Map(Object.entries(options.tiedWeights)),
    finite: options.finite ?? FINITE_BY_VERIFY[verify],
    whenBusy: options.whenBusy ?? "wait",
    soleTrainer: options.soleTrainer ?? false,
    whenUnreachable: options.whenUnreachable ?? "throw",
    whenMissed: options.whenMissed ?? "keep_paused",
    whenPaused: options.whenPaused,
    deadlines,
    trainer: options.trainer,
    logger,
    clock: options.clock ?? systemClock,
  };
}

const GROUP_FIELDS = [
  "masterAddress",
  "masterPort",
  "bindAddress",
  "openGroup",
  "isolation",
] as const;

/** The options that each transport takes; `"auto"` and transports of one's own take all. */
const FIELDS_OF_TRANSPORT: {
  readonly [Name in TransportName]: readonly FieldsOfTransport[Name][];
} = {
  "nccl": [...GROUP_FIELDS, "nccl", "keeper"],
  "gloo": GROUP_FIELDS,
  "cuda-ipc": ["nccl", "serversSeeDevice"],
  "disk": ["disk"],
};

function checkTransportOptions(options: GivenOptions): void {
  const { transport } = options;
  if (typeof transport === "function" || transport === undefined || transport === "auto") return;
  const owners = Object.entries<readonly (keyof GivenOptions)[]>(FIELDS_OF_TRANSPORT);
  for (const field of new Set(owners.flatMap(([, fields]) => fields))) {
    if (options[field] === undefined) continue;
    const takers = owners.filter(([, fields]) => fields.includes(field)).map(([name]) => name);
    if (takers.includes(transport)) continue;
    const list = takers.map((name) => `"${name}"`).join(" and ");
    throw new ValidationError(
      `${field} is for transport ${list}, and \`transport\` is "${transport}": leave one of them out`,
    );
  }
}

/** The index of a CUDA device given as TorchRL takes it: null, 5, "cuda" or "cuda:1". */
export function parseDevice(device: number | string | null | undefined): number {
  if (device === undefined || device === null || device === "cuda") return 0;
  if (typeof device === "number" && Number.isSafeInteger(device) && device >= 0) return device;
  const index = typeof device === "string" ? /^cuda:(\d+)$/.exec(device)?.[1] : undefined;
  if (index !== undefined) return Number(index);
  throw new ValidationError(
    `device must be an index of 0 or more, "cuda" or "cuda:N", got ${JSON.stringify(device)}`,
  );
}

function resolvePause(
  options: GivenOptions,
  env: (name: string) => string | undefined,
  logger: Logger,
): { pauseMode: PauseMode; flushCache: boolean | undefined } {
  const fromEnv = env(PAUSE_ENV);
  const pauseMode = options.pauseMode ?? fromEnv ?? "abort";
  if (!isPauseMode(pauseMode)) {
    const name = options.pauseMode === undefined ? PAUSE_ENV : "pauseMode";
    throw new ValidationError(
      `${name} must be one of 'abort', 'retract' or 'in_place', got '${pauseMode}'.`,
    );
  }
  const { flushCache } = options;
  if (flushCache === undefined) {
    const fromFlushEnv = parseFlag(FLUSH_ENV, env(FLUSH_ENV));
    if (fromFlushEnv !== true || pauseMode === "abort") {
      return { pauseMode, flushCache: fromFlushEnv };
    }
    logger.warn(
      `${FLUSH_ENV} asks for a flush, which needs pauseMode 'abort'; it is '${pauseMode}', so the ` +
        `cache is flushed only if the server is idle`,
    );
    return { pauseMode, flushCache: undefined };
  }
  if (flushCache && pauseMode !== "abort") {
    throw new ValidationError(
      `flushCache: true requires pauseMode 'abort', got '${pauseMode}': SGLang only flushes its ` +
        `prefix cache when the scheduler is idle. Leave flushCache unset to flush if it is.`,
    );
  }
  return { pauseMode, flushCache };
}

function isPauseMode(mode: string): mode is PauseMode {
  return mode === "abort" || mode === "retract" || mode === "in_place";
}

function parseFlag(name: string, value: string | undefined): boolean | undefined {
  if (value === undefined || value === "") return undefined;
  if (/^(1|true|yes|on)$/i.test(value)) return true;
  if (/^(0|false|no|off)$/i.test(value)) return false;
  throw new ValidationError(`${name} must be 1 or 0, got '${value}'.`);
}

function requireOneOf(name: string, value: string | undefined, allowed: readonly string[]): void {
  if (value !== undefined) checkOneOf(name, value, allowed);
}

function requireWhole(
  name: string,
  value: number | undefined,
  range: { from: number; to: number },
): void {
  if (value === undefined) return;
  if (Number.isSafeInteger(value) && value >= range.from && value <= range.to) return;
  throw new ValidationError(
    `${name} must be a whole number from ${range.from} to ${range.to}, got ${value}`,
  );
}
