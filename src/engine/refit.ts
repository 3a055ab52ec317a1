import { StateError } from "../errors.ts";
import type { Logger } from "../internal/logger.ts";
import { type FleetSync, SGLangWeightSyncScheme, VersionLedger } from "../weights/mod.ts";
import { observed } from "../internal/observe.ts";
import type { ModelInput } from "../weights/source/mod.ts";
import type { Member } from "./member.ts";

/** One server that is to get the fleet's weights alone. */
export interface Refit {
  readonly member: Member;
  /** What the weights are called. */
  readonly version: string | undefined;
  /** The weights; default those of the last sync. */
  readonly source: ModelInput | undefined;
  /** The last sync of the fleet. */
  readonly last: FleetSync | undefined;
  readonly logger: Logger;
}

/** Whether the weights of a sync can be had again. */
export function isRepeatable(sync: FleetSync | undefined): boolean {
  return sync?.fingerprint !== undefined;
}

/**
 * Brings weights that have their name already to one server, over a way of its own, so that the
 * others serve on.
 */
export function refit(
  refit: Refit,
  call: { readonly signal: AbortSignal | undefined },
): Promise<void> {
  const facts = { server: refit.member.url, version: refit.version };
  return observed("refit", refit.member, facts, () => bringUpToDate(refit, call));
}

async function bringUpToDate(
  refit: Refit,
  call: { readonly signal: AbortSignal | undefined },
): Promise<void> {
  const { member, last, version, logger } = refit;
  if (version === undefined) {
    throw new StateError(
      `${member.url} cannot be brought up to date: no sync gave the fleet a version yet; give version`,
    );
  }
  const source = refit.source ?? await sourceOf(last, version, member.url, call.signal);
  // The group of the fleet's own syncs has the port that was asked for.
  const { masterPort: _port, numWorkers: _ranks, ...options } = last?.options ?? {};
  const scheme = new SGLangWeightSyncScheme({
    ...options,
    logger,
    whenUnreachable: "throw",
    engine: { workers: [member], versions: new OneName(version) },
  });
  await using sender = scheme.createSender();
  await sender.initAllWorkersGroup(last?.declared, call);
  await sender.updateWeights(source, { signal: call.signal, version });
}

async function sourceOf(
  last: FleetSync | undefined,
  wanted: string,
  url: string,
  signal: AbortSignal | undefined,
): Promise<ModelInput> {
  const cannot = (why: string) =>
    new StateError(`${url} cannot be brought up to date: ${why}. Give source, or sync again`);
  if (last === undefined) throw cannot("there was no sync yet");
  const { source, fingerprint, version } = last;
  // Another program may have brought the fleet other weights, or a sync of ours is just ending.
  if (version !== wanted) throw cannot(`the last sync brought "${version}", not "${wanted}"`);
  if (fingerprint === undefined) {
    throw cannot(`the last sync's weights (${source.label}) may have changed since`);
  }
  if (await source.fingerprint?.({ signal }) === fingerprint) return source;
  throw cannot(`${source.label} changed since it was synced as "${version}"`);
}

/** The ledger of weights that keep the name that they have. */
class OneName extends VersionLedger {
  readonly #version: string;

  constructor(version: string) {
    super();
    this.#version = version;
  }

  override reserve(): { version: string; name: string; syncId: string } {
    return { version: this.#version, name: this.#version, syncId: crypto.randomUUID() };
  }
}
