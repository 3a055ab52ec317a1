import type { RolloutBatch } from "../collector/batch.ts";
import type { EndedSession } from "./options.ts";
import type { RecordedTurn } from "./recorded_turn.ts";

/**
 * One session: an agent's requests, recorded as turns. It is opened by
 * {@linkcode RecordingGateway.open} or by `POST /sessions`; its key is the agent's API key.
 */
export interface GatewaySession extends AsyncDisposable {
  /** Its id. */
  readonly id: string;
  /** The key by which an agent is known. */
  readonly key: string;
  /** What an agent takes as the base URL of the OpenAI API; `/v1` is its end. */
  readonly baseUrl: string;
  /** Resolves with its rows when it has ended. */
  readonly ended: Promise<EndedSession>;
  /** Answers so far, in the order in which they ended. */
  readonly turns: readonly RecordedTurn[];
  /** Whether it has ended or is ending. */
  readonly isOver: boolean;
  /** Requests that are under way. */
  readonly running: number;
  /**
   * Adds to the reward: of one answer where its id is given, else of the session, whose last row has
   * it. Given several times, it adds up.
   *
   * @throws {ValidationError} The number is not finite, or the answer is not of this session.
   * @throws {StateError} The session has ended.
   */
  reward(value: number, options?: { readonly answer?: string | undefined }): void;
  /** Ends it, and gives its rows. Answers that are under way are ended first, and recorded. */
  end(): Promise<EndedSession>;
  /** Gives it up. Its rows are told all the same, the last marked as truncated. */
  abort(): Promise<EndedSession>;
  /** The rows so far. */
  batch(): RolloutBatch;
}
