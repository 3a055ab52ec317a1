import type { RolloutRow } from "../../src/collector/mod.ts";

/** A row of which only its numbers count. */
export function rowOf(dialog: number, more: Partial<RolloutRow> = {}): RolloutRow {
  return {
    dialog,
    attempt: 0,
    group: dialog,
    member: 0,
    environment: 0,
    turn: 0,
    parent: null,
    branch: 0,
    drift: null,
    messages: [{ role: "user", content: "Hi" }],
    response: { role: "assistant", content: "Yes" },
    nextMessages: [],
    promptIds: Int32Array.of(1),
    responseIds: Int32Array.of(2),
    logProbs: Float32Array.of(-1),
    reward: 0,
    done: true,
    truncated: false,
    finishReason: { type: "stop", matched: null },
    weightVersions: null,
    server: null,
    tokenVersions: null,
    versionsExact: false,
    info: {},
    ...more,
  };
}
