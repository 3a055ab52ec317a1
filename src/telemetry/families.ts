import type { Histogram } from "./histogram.ts";
import type { Monitor } from "./monitor.ts";
import type { Family, Labels } from "./prometheus.ts";
import type { ServerLook } from "./server_look.ts";

/** What is counted of a server, by whoever asked it. */
export type ServerNumbers = Pick<
  ServerLook,
  | "url"
  | "answers"
  | "isReady"
  | "running"
  | "waiting"
  | "tokensPerSecond"
  | "kvUsage"
  | "cacheHits"
>;

/** The numbers of the servers of a fleet; what a server does not tell is left out. */
export function serverGauges(servers: readonly ServerNumbers[]): Family[] {
  const gauge = (name: string, help: string, value: (server: ServerNumbers) => number | null) =>
    serverGauge(name, help, servers.map((server) => [server.url, value(server)]));
  return [
    gauge(
      "up",
      "Whether the server answers.",
      ({ answers }) => answers === null ? null : Number(answers),
    ),
    gauge(
      "ready",
      "Whether the server takes requests; a paused one does not.",
      ({ isReady }) => isReady === null ? null : Number(isReady),
    ),
    gauge("requests_running", "Requests that run.", ({ running }) => running),
    gauge("requests_waiting", "Requests that wait.", ({ waiting }) => waiting),
    gauge("tokens_per_second", "Tokens made a second.", (one) => one.tokensPerSecond),
    gauge("kv_usage_ratio", "Share of the KV pool in use.", ({ kvUsage }) => kvUsage),
    gauge(
      "cache_hit_ratio",
      "Share of prompt tokens found in the prefix cache.",
      ({ cacheHits }) => cacheHits,
    ),
  ];
}

/** One number of each server, by address. */
function serverGauge(
  name: string,
  help: string,
  values: readonly (readonly [url: string, value: number | null])[],
): Family {
  return {
    type: "gauge",
    name: `sglang_rl_server_${name}`,
    help,
    samples: values.map(([server, value]) => [{ server }, value]),
  };
}

/** What each server is, as labels of a gauge that is 1. */
export function serverInfo(servers: readonly Labels[]): Family {
  return {
    type: "gauge",
    name: "sglang_rl_server_info",
    help: "What the server is, and which weights it has.",
    samples: servers.map((labels) => [labels, 1]),
  };
}

function serverFamilies(servers: readonly ServerLook[]): Family[] {
  return [
    ...serverGauges(servers),
    serverInfo(servers.map((server) => ({
      server: server.url,
      sglang: server.sglang ?? "",
      weight_version: server.weightVersion ?? "",
      model: server.model ?? "",
      state: server.state ?? "",
    }))),
  ];
}

/** All metrics of a monitor. */
export function familiesOf(monitor: Monitor, servers: readonly ServerLook[]): Family[] {
  return [
    ...(monitor.watched.engine === undefined ? [] : serverFamilies(servers)),
    ...engineFamilies(monitor),
    ...rolloutFamilies(monitor),
    ...syncFamilies(monitor),
    {
      type: "gauge",
      name: "sglang_rl_recorded",
      help: "Values that the program recorded, such as a loss or a mismatch.",
      samples: [...monitor.recorded].map(([name, value]) => [{ name }, value]),
    },
  ];
}

function engineFamilies({ watched, counts }: Monitor): Family[] {
  if (watched.engine === undefined) return [];
  const { requests } = watched.engine;
  return [
    one("gauge", "requests_in_flight", "Requests that the servers have.", requests?.inFlight),
    one("gauge", "requests_queued", "Requests that wait for their turn.", requests?.queued),
    {
      type: "counter",
      name: "sglang_rl_requests_total",
      help: "Requests that ended.",
      samples: [
        [{ outcome: "answered" }, counts.requests - counts.requestsFailed],
        [{ outcome: "failed" }, counts.requestsFailed],
      ],
    },
    {
      type: "histogram",
      name: "sglang_rl_request_seconds",
      help: "Time of a request, with its time in the queue.",
      samples: [[{}, counts.requestSeconds]],
    },
    {
      type: "counter",
      name: "sglang_rl_tokens_total",
      help: "Tokens of requests; cached ones are among the prompt's.",
      samples: [
        [{ kind: "prompt" }, counts.promptTokens],
        [{ kind: "cached" }, counts.cachedTokens],
        [{ kind: "sampled" }, counts.outputTokens],
      ],
    },
    {
      type: "counter",
      name: "sglang_rl_server_lost_total",
      help: "Times that a server left the rotation.",
      samples: [...counts.lost].map(([server, count]) => [{ server }, count]),
    },
    outcomes(
      "refits_total",
      "Servers brought up to date alone.",
      counts.refits,
      counts.refitsFailed,
    ),
    one("counter", "server_starts_total", "Managed servers started.", counts.serverStarts),
  ];
}

function rolloutFamilies({ watched, counts }: Monitor): Family[] {
  const { collector } = watched;
  if (collector === undefined) return [];
  const { stats } = collector;
  const version = collector.policyVersion;
  return [
    one("gauge", "dialogs_running", "Dialogs that run.", collector.running),
    one("gauge", "rows_waiting", "Rows or dialogs that wait for the reader.", collector.waiting),
    {
      type: "counter",
      name: "sglang_rl_dialogs_total",
      help: "Dialogs that ended, by how.",
      samples: [
        [{ outcome: "completed" }, stats.dialogsCompleted],
        [{ outcome: "failed" }, stats.dialogsFailed],
        [{ outcome: "abandoned" }, stats.dialogsAbandoned],
      ],
    },
    {
      type: "counter",
      name: "sglang_rl_rows_total",
      help: "Turns, by what became of them.",
      samples: [
        [{ outcome: "yielded" }, stats.rowsYielded],
        [{ outcome: "stale" }, stats.rowsStale],
        [{ outcome: "unused" }, stats.rowsUnused],
      ],
    },
    one("counter", "turns_total", "Turns that were taken.", stats.turns),
    one("counter", "retries_total", "Times that a dialog was run anew.", stats.retries),
    one("counter", "batches_total", "Batches given out.", counts.batches),
    {
      type: "summary",
      name: "sglang_rl_dialog_reward",
      help: "Sums of the rewards of whole dialogs.",
      samples: [[{}, { sum: counts.rewardSum, count: counts.rewardCount }]],
    },
    {
      type: "histogram",
      name: "sglang_rl_batch_staleness_versions",
      help: "Versions that a batch's oldest token is behind.",
      samples: [[{}, counts.staleness]],
    },
    one(
      "gauge",
      "policy_version",
      "Present policy version, when it is a number.",
      typeof version === "number" ? version : null,
    ),
  ];
}

function syncFamilies({ watched, counts, sync }: Monitor): Family[] {
  if (watched.sender === undefined) return [];
  return [
    outcomes("syncs_total", "Weight syncs that ended.", counts.syncs, counts.syncsFailed),
    histogram("sync_seconds", "Time of a sync.", [[{}, counts.syncSeconds]]),
    histogram("sync_paused_seconds", "Time that a sync paused the servers.", [
      [{}, counts.syncPausedSeconds],
    ]),
    histogram(
      "sync_step_seconds",
      "Time of a step of a sync.",
      [...counts.syncStepSeconds].map(([step, times]) => [{ step }, times]),
    ),
    one("gauge", "sync_running", "Whether a sync runs.", Number(sync?.state === "running")),
  ];
}

function one(
  type: "gauge" | "counter",
  name: string,
  help: string,
  value: number | null | undefined,
): Family {
  return { type, name: `sglang_rl_${name}`, help, samples: [[{}, value]] };
}

function outcomes(name: string, help: string, all: number, failed: number): Family {
  return {
    type: "counter",
    name: `sglang_rl_${name}`,
    help,
    samples: [[{ outcome: "done" }, all - failed], [{ outcome: "failed" }, failed]],
  };
}

function histogram(
  name: string,
  help: string,
  samples: readonly (readonly [Labels, Histogram])[],
): Family {
  return { type: "histogram", name: `sglang_rl_${name}`, help, samples };
}
