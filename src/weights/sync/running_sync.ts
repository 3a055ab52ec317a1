import { SyncOvertakenError, WeightSyncError } from "../../errors.ts";
import { throwIfAborted } from "../../internal/deadline.ts";
import { messageOf } from "../../internal/thrown.ts";
import { isMark } from "../../internal/version_marks.ts";
import type { Lease } from "../fleet/lease.ts";
import { type FleetCall, onAllSettled, ServerFailure, unwrapFailure } from "../fleet/on_all.ts";
import type { FleetServer } from "../fleet/server.ts";
import type { Transport } from "../transport/transport.ts";
import type { ReservedVersion } from "../version_ledger.ts";
import type { Lost } from "./lanes.ts";
import type { Steps, SyncPhase } from "./progress.ts";
import type { SyncRequest } from "./report.ts";
import { type Legacy, willOf } from "./will.ts";

/** A sync under way: what it knows, and how it does a step on all servers that are left. */
export class RunningSync {
  readonly request: SyncRequest;
  readonly steps: Steps;
  readonly versionsBefore = new Map<FleetServer, string | null>();
  transport: Transport | undefined;
  lease: Lease | undefined;
  /** All servers that the sync began with. */
  servers: readonly FleetServer[] = [];
  /** Those that it went on without. */
  readonly lost: Lost[] = [];
  /** What lost servers were in, until it is cleaned up. */
  cleaning: Promise<unknown> = Promise.resolve();
  /** Whether those that are left serve the new weights. */
  isPublished = false;
  /** Whether anything was asked of a server that may have to be taken back. */
  touched = false;
  pausedAtMs = 0;
  pausedMs = 0;
  reserved: ReservedVersion | undefined;

  constructor(request: SyncRequest, steps: Steps) {
    this.request = request;
    this.steps = steps;
  }

  /** The name that the weights are given. */
  get version(): string {
    return this.reserved?.version ?? "";
  }

  /** Goes on without a server. */
  lose(lost: Lost): void {
    const { server, phase, error } = lost;
    const { logger } = this.request.options;
    logger.warn(`The sync goes on without ${server.url}, lost in ${phase}: ${messageOf(error)}`);
    const isNamed = error instanceof ServerFailure;
    this.lost.push(isNamed ? lost : { ...lost, error: new ServerFailure(server, error) });
    this.request.fleet.drop(server);
    this.lease?.drop(server);
  }

  /**
   * Does a step on every server that is left. Weights have changed, so a server where it fails holds
   * up none of the others; when it fails everywhere, the sync has failed.
   */
  async onEach<T>(
    phase: SyncPhase,
    message: string,
    timeoutMs: number,
    work: (server: FleetServer, call: FleetCall & { signal: AbortSignal }) => Promise<T>,
  ): Promise<T[]> {
    const { fleet, signal, options } = this.request;
    const { stragglerMs } = options.deadlines;
    const servers = fleet.participants;
    return await this.step(phase, message, async () => {
      const call = { phase: message, timeoutMs, signal, stragglerMs };
      const outcomes = await onAllSettled(
        servers,
        call,
        (server, inner) => work(server, { phase: message, timeoutMs, signal: inner }),
      );
      const failures = outcomes.filter((outcome) => outcome instanceof ServerFailure);
      const overtaken = failures.find(isOvertaken);
      if (overtaken !== undefined) throw overtaken;
      const wrong = failures.find(({ cause }) => cause instanceof WeightSyncError);
      if (phase === "verify" && wrong !== undefined) throw wrong;
      if (failures.length === servers.length || signal?.aborted) {
        if (failures.length > 0) throw failures[0]!;
        throwIfAborted(signal, message);
      }
      outcomes.forEach((outcome, i) => {
        if (!(outcome instanceof ServerFailure)) return;
        this.lose({ server: servers[i]!, phase: message, error: outcome });
      });
      return outcomes.filter((outcome) => !(outcome instanceof ServerFailure)) as T[];
    });
  }

  /** Tells whoever outlives this process how to leave a server if it is killed now. */
  async bequeath(server: FleetServer, legacy: Legacy): Promise<void> {
    await this.transport?.setWill?.(server, willOf(server, legacy));
  }

  /** The same for each server for which there is something to say. */
  async bequeathAll(legacyOf: (server: FleetServer) => Legacy | undefined): Promise<void> {
    await Promise.all(this.servers.map(async (server) => {
      const legacy = legacyOf(server);
      if (legacy !== undefined) await this.bequeath(server, legacy);
    }));
  }

  /** Of a server that holds what it held before. */
  oldLegacy(server: FleetServer): Legacy {
    const version = this.versionsBefore.get(server) ?? null;
    return isMark(version) ? this.someLegacy() : { holds: "old", version };
  }

  /** Of a server that may hold a part of the new weights. */
  someLegacy(): Legacy {
    const serves = this.request.options.whenMissed === "resume";
    return { holds: "some", version: this.version, serves };
  }

  /** Runs a step, timed and told. */
  step<T>(phase: SyncPhase, message: string, work: () => Promise<T>): Promise<T> {
    return this.steps.run(phase, message, work);
  }
}

/** Whether another trainer has taken a server over. */
export function isOvertaken(error: unknown): boolean {
  return unwrapFailure(error).cause instanceof SyncOvertakenError;
}

/** Whether a server has sessions of updates. */
export function hasSession({ capabilities }: FleetServer): boolean {
  return capabilities.hasWeightSession;
}
