import {
  type ServerAction,
  type ServerGuard,
  type ServerInput,
  type ServerState,
  type Transition,
  transitions,
} from "./transitions.ts";

/** When a server counts as dead, and how often it is started again. */
export interface FleetRules {
  /** Probes in a row that a server may miss before it counts as dead. Default 3. */
  readonly missedLimit: number;
  /** Requests in a row that may break on a server before it counts as dead. Default 3. */
  readonly failedLimit: number;
  /** Restarts of a server without a steady minute between them, before it is retired. Default 3. */
  readonly restartLimit: number;
  /** How long a server must be healthy until its restarts are forgotten, in ms. Default 60,000. */
  readonly steadyMs: number;
  /** Pause before the first restart, in milliseconds; each further one is twice as long. Default 500. */
  readonly backoffMs: number;
  /** Longest pause before a restart. Default 30,000. */
  readonly maxBackoffMs: number;
  /** Servers that must stay healthy when one is taken out only for failed requests. Default 1. */
  readonly minHealthy: number;
}

/** The defaults of {@linkcode FleetRules}. */
export const defaultRules: FleetRules = {
  missedLimit: 3,
  failedLimit: 3,
  restartLimit: 3,
  steadyMs: 60_000,
  backoffMs: 500,
  maxBackoffMs: 30_000,
  minHealthy: 1,
};

/** What is known of a server; never changed, only replaced. */
export interface ServerRecord {
  readonly state: ServerState;
  /** Probes missed in a row. */
  readonly missed: number;
  /** Requests that broke in a row. */
  readonly failed: number;
  /** Restarts since it was steady last. */
  readonly restarts: number;
  /** Since when it is healthy without a break, by the clock; `null` when it is not. */
  readonly healthySince: number | null;
  /** When its next start is due, by the clock; `null` when none is. */
  readonly dueAt: number | null;
  /** Whether it is ours to start. */
  readonly isOurs: boolean;
}

/** What a step needs to know beside the record. */
export interface StepContext {
  readonly rules: FleetRules;
  /** The clock's time. */
  readonly now: number;
  /** Other servers that are healthy. */
  readonly othersHealthy: number;
}

/** What became of a server, and what is to be done. */
export interface Step {
  readonly record: ServerRecord;
  readonly actions: readonly ServerAction[];
}

/** A server at its beginning. */
export function newRecord(options: {
  readonly state: "starting" | "healthy" | "stale";
  readonly isOurs: boolean;
  readonly now: number;
}): ServerRecord {
  const { state, isOurs, now } = options;
  const healthySince = state === "healthy" ? now : null;
  return { state, isOurs, healthySince, missed: 0, failed: 0, restarts: 0, dueAt: null };
}

/** The next record: counts first, then the first way of the table that fits. Pure. */
export function step(before: ServerRecord, input: ServerInput, context: StepContext): Step {
  const counted = count(before, input, context);
  const way = transitions.find((one) =>
    one.from === counted.state && one.on === input && holds(one.when, counted, context)
  );
  if (way === undefined) return { record: counted, actions: [] };
  return { record: go(counted, way, context), actions: way.does ?? [] };
}

/** Why a server whose pause is over is started again, or given up, in words. */
export function dueReason(
  { restarts }: ServerRecord,
  { restartLimit, steadyMs }: FleetRules,
  lastReason: string,
): string {
  if (restarts < restartLimit) return `start ${restarts + 1} of ${restartLimit}: ${lastReason}`;
  const steady = `${steadyMs / 1000} s of health between`;
  return `it was started again ${restarts} times without ${steady}, and now ${lastReason}; ` +
    "an order to restart it starts it again";
}

function count(
  record: ServerRecord,
  input: ServerInput,
  { rules, now }: StepContext,
): ServerRecord {
  const { healthySince } = record;
  const isSteady = healthySince !== null && now - healthySince >= rules.steadyMs;
  const restarts = isSteady ? 0 : record.restarts;
  switch (input) {
    case "answered":
      return { ...record, restarts, missed: 0 };
    case "missed":
      return { ...record, restarts, missed: record.missed + 1 };
    case "served":
      return { ...record, restarts, failed: 0 };
    case "failed":
      return { ...record, restarts, failed: record.failed + 1 };
    default:
      return { ...record, restarts };
  }
}

function holds(
  guard: ServerGuard | undefined,
  record: ServerRecord,
  context: StepContext,
): boolean {
  const { rules, othersHealthy } = context;
  switch (guard) {
    case undefined:
      return true;
    case "no request failed since":
      return record.failed === 0;
    case "no probe was missed since":
      return record.missed === 0;
    case "too many probes in a row":
      return record.missed >= rules.missedLimit;
    case "too many requests in a row, and enough other servers":
      return record.failed >= rules.failedLimit && othersHealthy >= rules.minHealthy;
    case "the budget has a restart left":
      return record.restarts < rules.restartLimit;
    case "it is ours to start":
      return record.isOurs;
  }
}

function go(
  record: ServerRecord,
  { to, on }: Transition,
  { rules, now }: StepContext,
): ServerRecord {
  const healthySince = to === "healthy" || to === "suspect" ? record.healthySince ?? now : null;
  const moved = { ...record, state: to, healthySince, dueAt: null };
  switch (to) {
    case "restarting":
      // Whoever orders a restart has looked at the reason: the budget begins again.
      return {
        ...moved,
        missed: 0,
        failed: 0,
        restarts: on === "ordered" ? 0 : record.restarts + 1,
      };
    case "stale":
    case "healthy":
      return { ...moved, missed: 0, failed: 0 };
    case "dead": {
      // Without a restart left there is nothing to wait for: it is retired at once.
      const pauseMs = record.restarts >= rules.restartLimit
        ? 0
        : Math.min(rules.maxBackoffMs, rules.backoffMs * 2 ** record.restarts);
      return { ...moved, dueAt: record.isOurs ? now + pauseMs : null };
    }
    default:
      return moved;
  }
}
