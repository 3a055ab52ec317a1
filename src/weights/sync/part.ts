import { UnsupportedError, ValidationError } from "../../errors.ts";
import { isMark } from "../../internal/version_marks.ts";
import type { FleetServer } from "../fleet/server.ts";
import type { CheckOptions } from "./names.ts";

/**
 * Names of tensors: a text in which `*` stands for any characters, such as `"model.layers.3.*"`, or a
 * regular expression.
 */
export type WeightPattern = string | RegExp;

/** What a sync of a part brought. */
export interface SyncedPart {
  /** The patterns that were given. */
  readonly only: readonly string[];
  /** The version whose other tensors the servers keep. */
  readonly baseVersion: string | null;
  /** The names that were sent. */
  readonly names: readonly string[];
}

/** Parts of a name that belong to one quantised weight: new ones beside old ones are other values. */
const QUANTISED = /scale|zero|qweight|g_idx|lookup/;

/** The tensors that a sync is about, where it is not about all of them. */
export class Part {
  /** The patterns, as texts. */
  readonly only: readonly string[];
  readonly #tests: readonly RegExp[];

  /**
   * Reads the patterns.
   *
   * @throws {ValidationError} There is none, or one is empty.
   */
  constructor(only: WeightPattern | readonly WeightPattern[]) {
    const patterns = (Array.isArray(only) ? only : [only]) as readonly WeightPattern[];
    const isGood = (pattern: unknown) =>
      pattern instanceof RegExp || (typeof pattern === "string" && pattern !== "");
    if (patterns.length === 0 || !patterns.every(isGood)) {
      throw new ValidationError(
        'only must be a pattern of names, such as "model.layers.3.*", a RegExp, or a list of these',
      );
    }
    this.only = patterns.map(String);
    this.#tests = patterns.map((pattern) => {
      // Flags that remember where the last search ended would leave out every other name.
      if (pattern instanceof RegExp) {
        return new RegExp(pattern.source, pattern.flags.replace(/[gy]/g, ""));
      }
      const pieces = pattern.split(/\*+/).map((piece) => RegExp.escape(piece));
      return new RegExp(`^${pieces.join("[^]*?")}$`);
    });
  }

  /** Whether a tensor belongs to it. */
  has(name: string): boolean {
    return this.#tests.some((test) => test.test(name));
  }

  /** Those of a model's weights that belong to it; all of these must be there. */
  of(reference: CheckOptions): CheckOptions {
    const names = [...reference.reference.keys()];
    const label = `only ${this.only.join(", ")}`;
    if (!names.some((name) => this.has(name))) {
      throw new ValidationError(
        `${label}: no weight of ${reference.referenceLabel} has such a name; it has ` +
          `${names.slice(0, 5).map((name) => `'${name}'`).join(", ")}` +
          `${names.length > 5 ? `, ... (${names.length})` : ""}`,
      );
    }
    this.#requireWholeWeights(names, label);
    return {
      ...reference,
      reference: new Map([...reference.reference].filter(([name]) => this.has(name))),
      referenceLabel: `${label} of ${reference.referenceLabel}`,
    };
  }

  /** A quantised weight goes with its scales or not at all. */
  #requireWholeWeights(names: readonly string[], label: string): void {
    const modules = Map.groupBy(names, (name) => name.slice(0, name.lastIndexOf(".") + 1));
    for (const [module, members] of modules) {
      if (!members.some((name) => QUANTISED.test(name.slice(module.length)))) continue;
      const left = members.find((name) => !this.has(name));
      const taken = members.find((name) => this.has(name));
      if (left === undefined || taken === undefined) continue;
      throw new ValidationError(
        `${label} takes '${taken}' without '${left}': a quantised weight with stale scales is ` +
          "another weight. Let the pattern take both or neither",
      );
    }
  }

  /**
   * Refuses servers that a part would leave with a mixture: those of different versions, or of
   * which nobody knows what they hold. Gives the version that they have.
   *
   * @throws {ValidationError} They do not all hold the same weights.
   * @throws {UnsupportedError} A server makes other weights of what it is sent.
   */
  requireSameBase(servers: readonly FleetServer[]): string | null {
    const [first] = servers;
    const base = first?.weightVersion ?? null;
    for (const { url, weightVersion } of servers) {
      if (weightVersion === base && weightVersion !== null && !isMark(weightVersion)) continue;
      const told = servers.map((one) => `${one.url} "${one.weightVersion}"`).join(", ");
      throw new ValidationError(
        `A part can only be sent to servers that hold the same weights whole; ${url} has version ` +
          `"${weightVersion}" (${told}). Sync all tensors first`,
      );
    }
    const own = servers.find(({ quantizes }) => quantizes !== undefined);
    if (own !== undefined) {
      throw new UnsupportedError(
        `${own.url} quantises its weights itself (--quantization ${own.quantizes}), and nobody knows ` +
          "what a part leaves of the others; send all tensors",
      );
    }
    return base;
  }
}
