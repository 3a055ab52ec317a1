/** What the buttons of a dashboard do; each throws what went wrong. */
export interface DashboardActions {
  /** Pauses every server. */
  readonly pause?: (() => Promise<void>) | undefined;
  /** Resumes every server. */
  readonly resume?: (() => Promise<void>) | undefined;
  /** Lets one server go, after its requests. */
  readonly drain?: ((server: string) => Promise<void>) | undefined;
  /** Ends the sync that runs. */
  readonly abortSync?: (() => Promise<void>) | undefined;
}

/** What the buttons need of an engine; ours has it. */
export interface ActingEngine {
  /** Pauses every server. */
  pause(mode: "in_place"): Promise<void>;
  /** Resumes every server. */
  resume(): Promise<void>;
  /** Lets a server go. */
  removeWorker?(url: string): Promise<void>;
}

/** Buttons for an engine, and for the sync of a sender where `abortSync` is given. */
export function actionsOf(
  engine: ActingEngine,
  more: Pick<DashboardActions, "abortSync"> = {},
): DashboardActions {
  return {
    pause: () => engine.pause("in_place"),
    resume: () => engine.resume(),
    ...(engine.removeWorker === undefined
      ? {}
      : { drain: (server: string) => engine.removeWorker!(server) }),
    ...more,
  };
}
