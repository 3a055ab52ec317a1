import type { PolicyVersion } from "../collector/policy_version.ts";
import { ValidationError } from "../errors.ts";
import type { GatewayOptions } from "./options.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";

/** Options of {@linkcode stalenessLimit}. */
export interface StalenessLimitOptions {
  /** The policy versions: the tracker that the trainer's syncs move on. */
  readonly versions: PolicyVersion;
  /** How many versions an answer may be behind when it is trained on. */
  readonly maxStaleness: number;
  /** Answers that one step of the trainer uses up. */
  readonly turnsPerStep: number;
  /** What those who are held back are told to wait, in seconds. Default 5. */
  readonly retryAfterS?: number | undefined;
}

const OPTION_NAMES = {
  versions: true,
  maxStaleness: true,
  turnsPerStep: true,
  retryAfterS: true,
} as const satisfies OptionNames<StalenessLimitOptions>;

/**
 * A `holdBack` that lets agents begin only as long as their answers can be trained on in time: with
 * `v` syncs since the gateway began, at most `(v + maxStaleness + 1) * turnsPerStep` answers are
 * recorded or under way. A session that has begun goes on: what it has would else be lost.
 *
 * @throws {ValidationError} A number is out of range.
 *
 * Source: Fu et al., AReaL, equation 3.
 *
 * @example
 * ```ts ignore
 * const versions = new PolicyVersion("int");
 * const limit = stalenessLimit({ versions, maxStaleness: 2, turnsPerStep: 256 });
 * await using gateway = await RecordingGateway.listen(engine, { holdBack: limit });
 * ```
 */
export function stalenessLimit(
  options: StalenessLimitOptions,
): NonNullable<GatewayOptions["holdBack"]> {
  checkOptionNames(options, OPTION_NAMES, "stalenessLimit()");
  const { versions, maxStaleness, turnsPerStep, retryAfterS = 5 } = options;
  requireNumber("maxStaleness", maxStaleness, 0);
  requireNumber("turnsPerStep", turnsPerStep, 1);
  requireNumber("retryAfterS", retryAfterS, 0);
  const first = versions.currentIndex;
  return ({ session, stats: { turns, running } }) => {
    if (session.turns.length + session.running > 0) return null;
    const steps = versions.currentIndex - first;
    const room = (steps + maxStaleness + 1) * turnsPerStep - turns - running;
    return room > 0 ? null : retryAfterS;
  };
}

function requireNumber(name: string, value: number, least: number): void {
  if (Number.isFinite(value) && value >= least) return;
  throw new ValidationError(`stalenessLimit: ${name} must be at least ${least}, not ${value}`);
}
