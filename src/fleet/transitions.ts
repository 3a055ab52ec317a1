/**
 * The states of a supervised server and every way from one to another, as data: what the supervisor
 * does is read from this table, and so is the table of `docs/servers.md`.
 */

/** Where a supervised server stands. */
export type ServerState =
  | "starting"
  | "healthy"
  | "suspect"
  | "dead"
  | "restarting"
  | "stale"
  | "retired";

/** All states, and what each means. */
export const stateMeanings: Readonly<Record<ServerState, string>> = {
  starting: "known, and has not answered yet",
  healthy: "answers, holds the fleet's weights and gets requests",
  suspect: "missed a probe or failed a request; still gets requests",
  dead: "ended, or missed too much; gets no requests",
  restarting: "is being started again",
  stale:
    "answers, but may hold other weights than the fleet; gets no requests until it is refitted",
  retired: "given up; only an order starts it again",
};

/** What can happen to a server. */
export type ServerInput =
  | "answered"
  | "missed"
  | "served"
  | "failed"
  | "exited"
  | "strange"
  | "fitted"
  | "due"
  | "launched"
  | "not launched"
  | "ordered"
  | "retire";

/** All inputs, and what each means. */
export const inputMeanings: Readonly<Record<ServerInput, string>> = {
  answered: "it answered a probe",
  missed: "it did not answer a probe",
  served: "it answered a request of ours",
  failed: "a request of ours broke on it",
  exited: "its process ended",
  strange: "it holds other weights than the fleet",
  fitted: "it holds the fleet's weights: a sync brought them, or it had them",
  due: "the pause before its next start is over",
  launched: "its new process answers",
  "not launched": "its new process ended or did not answer in time",
  ordered: "somebody ordered a restart",
  retire: "somebody ordered it to be left alone",
};

/** What the supervisor does on the way. */
export type ServerAction = "withdraw" | "refit" | "launch";

/** A condition of a way. */
export type ServerGuard =
  | "no request failed since"
  | "no probe was missed since"
  | "too many probes in a row"
  | "too many requests in a row, and enough other servers"
  | "the budget has a restart left"
  | "it is ours to start";

/** One way from a state to a state. */
export interface Transition {
  /** Where the server stands. */
  readonly from: ServerState;
  /** What happens. */
  readonly on: ServerInput;
  /** Holds only then. Default always. */
  readonly when?: ServerGuard;
  /** Where it stands afterwards. */
  readonly to: ServerState;
  /** In this order. */
  readonly does?: readonly ServerAction[];
}

/**
 * Every way; of several for one input the first whose condition holds is taken. What is not here
 * changes nothing.
 *
 * No way leads from `dead`, `starting` or `restarting` straight to `healthy`: an answer only makes a
 * server `stale`, and weights make it healthy.
 */
export const transitions: readonly Transition[] = [
  { from: "starting", on: "answered", to: "stale", does: ["refit"] },
  { from: "starting", on: "exited", to: "dead", does: ["withdraw"] },

  { from: "healthy", on: "missed", to: "suspect" },
  { from: "healthy", on: "failed", to: "suspect" },

  { from: "suspect", on: "answered", when: "no request failed since", to: "healthy" },
  { from: "suspect", on: "served", when: "no probe was missed since", to: "healthy" },
  {
    from: "suspect",
    on: "missed",
    when: "too many probes in a row",
    to: "dead",
    does: ["withdraw"],
  },
  {
    from: "suspect",
    on: "failed",
    when: "too many requests in a row, and enough other servers",
    to: "dead",
    does: ["withdraw"],
  },

  ...(["healthy", "suspect"] as const).flatMap((from): Transition[] => [
    { from, on: "exited", to: "dead", does: ["withdraw"] },
    { from, on: "strange", to: "stale", does: ["withdraw", "refit"] },
    {
      from,
      on: "ordered",
      when: "it is ours to start",
      to: "restarting",
      does: ["withdraw", "launch"],
    },
    { from, on: "retire", to: "retired", does: ["withdraw"] },
  ]),

  { from: "dead", on: "answered", to: "stale", does: ["refit"] },
  {
    from: "dead",
    on: "due",
    when: "the budget has a restart left",
    to: "restarting",
    does: ["launch"],
  },
  { from: "dead", on: "due", to: "retired" },
  { from: "dead", on: "ordered", when: "it is ours to start", to: "restarting", does: ["launch"] },
  { from: "dead", on: "retire", to: "retired" },

  { from: "restarting", on: "launched", to: "stale", does: ["refit"] },
  { from: "restarting", on: "not launched", to: "dead" },
  { from: "restarting", on: "exited", to: "dead" },
  { from: "restarting", on: "retire", to: "retired" },

  { from: "stale", on: "fitted", to: "healthy" },
  { from: "stale", on: "missed", when: "too many probes in a row", to: "dead", does: ["withdraw"] },
  { from: "stale", on: "exited", to: "dead", does: ["withdraw"] },
  { from: "stale", on: "ordered", when: "it is ours to start", to: "restarting", does: ["launch"] },
  { from: "stale", on: "retire", to: "retired" },

  { from: "starting", on: "retire", to: "retired" },
  {
    from: "retired",
    on: "ordered",
    when: "it is ours to start",
    to: "restarting",
    does: ["launch"],
  },
];

/** The table of the documents, in Markdown. */
export function transitionTable(): string {
  const rows = transitions.map(({ from, on, when, to, does = [] }) =>
    `| \`${from}\` | ${inputMeanings[on]}${when === undefined ? "" : ` (${when})`} | \`${to}\` | ${
      does.join(", ")
    } |`
  );
  return [
    "| from | what happens | to | what is done |",
    "| --- | --- | --- | --- |",
    ...rows,
  ].join("\n");
}
