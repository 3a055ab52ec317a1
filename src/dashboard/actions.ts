/** What the buttons of a dashboard do; each throws what went wrong. */
export interface DashboardActions {
  /** Pauses every server. */
  readonly pause?: (() => Promise<void>) | undefined;
  /** Resumes every server. */
  readonly resume?: (() => Promise<void>) | undefined;
  /** Lets one server go, after its requests. */
  readonly drain?: ((server: string) => Promise<void>) | undefined;
  /** Lets a drained server come back. */
  readonly undrain?: ((server: string) => Promise<void>) | undefined;
  /** Ends the sync that runs. */
  readonly abortSync?: (() => Promise<void>) | undefined;
  /** What the buttons do here, or why one is missing; stands beside them. */
  readonly explained?: string | undefined;
}

/** What the buttons need of an engine; ours has it. */
export interface ActingEngine {
  /** Pauses every server. */
  pause(mode: "in_place"): Promise<void>;
  /** Resumes every server. */
  resume(): Promise<void>;
  /** Lets a server go. */
  removeWorker?(url: string): Promise<void>;
  /** Who starts the servers again; knows who is drained. */
  readonly supervisor?: {
    drain(url: string): Promise<void>;
    undrain(url: string): void;
  } | undefined;
}

/** Buttons for an engine, and for the sync of a sender where `abortSync` is given. */
export function actionsOf(
  engine: ActingEngine,
  more: Pick<DashboardActions, "abortSync"> = {},
): DashboardActions {
  return {
    pause: () => engine.pause("in_place"),
    resume: () => engine.resume(),
    ...drainOf(engine),
    ...more,
  };
}

/** A supervisor would bring back who is only removed. */
function drainOf(engine: ActingEngine): Pick<DashboardActions, "drain" | "undrain" | "explained"> {
  const { supervisor } = engine;
  if (supervisor !== undefined) {
    return {
      explained,
      drain: (server) => supervisor.drain(server),
      undrain: (server) => Promise.resolve(supervisor.undrain(server)),
    };
  }
  if (engine.removeWorker === undefined) return {};
  return { explained, drain: (server) => engine.removeWorker!(server) };
}

const explained =
  "Drain: this program, and the router that it goes by, send the server no more requests; other " +
  "programs that use it do not know.";
