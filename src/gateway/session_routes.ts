import { jsonLines } from "../collector/export/json_lines.ts";
import { RolloutBatch } from "../collector/batch.ts";
import { onlyGiven } from "../internal/option_names.ts";
import { Fields, ignoredFields } from "./apis/fields.ts";
import { GatewayRefusal, invalid, wrongMethod } from "./fault.ts";
import type { EndedSession, SessionLimits, SessionOptions } from "./options.ts";
import type { GatewaySession } from "./gateway_session.ts";
import type { OpenSession } from "./session.ts";

/** What `POST /sessions` may give. */
export function sessionOptionsOf(body: Readonly<Record<string, unknown>>): SessionOptions {
  ignoredFields(body, { used: ["limits", "info", "group", "member"], ignored: [] });
  const fields = new Fields(body);
  const limits = new Fields(fields.object("limits") ?? {}, "limits.");
  ignoredFields(fields.object("limits") ?? {}, { used: Object.values(LIMITS), ignored: [] });
  const given = Object.entries(LIMITS).map(([name, wire]) => [name, limits.integer(wire, 1)]);
  const info = fields.object("info");
  const dialog = onlyGiven({
    group: fields.integer("group", 0),
    member: fields.integer("member", 0),
  });
  return {
    limits: onlyGiven(Object.fromEntries(given)),
    ...(info === undefined ? {} : { info }),
    dialog,
  };
}

const LIMITS: Readonly<Record<keyof SessionLimits, string>> = {
  maxTurns: "max_turns",
  maxTokens: "max_tokens",
  maxConcurrent: "max_concurrent",
  maxMs: "max_ms",
  idleMs: "idle_ms",
};

/** Answers a request for a session that is open: for what it has so far, its reward or its end. */
export async function answerRoute(
  session: OpenSession,
  { method, action, body }: {
    readonly method: string;
    readonly action: string | undefined;
    readonly body: () => Promise<Record<string, unknown>>;
  },
): Promise<Response> {
  const { id } = session;
  if (action === undefined || action === "rows") {
    if (method !== "GET") throw wrongMethod(method, "GET");
    return Response.json(
      action === "rows"
        ? { id, rows: records(session.batch()) }
        : { id, turns: session.turns.length, running: session.running },
    );
  }
  if (method !== "POST") throw wrongMethod(method, "POST");
  const given = await body();
  if (action === "reward") return Response.json(giveReward(session, given));
  ignoredFields(given, { used: [], ignored: [] });
  return Response.json(endedSession(await (action === "end" ? session.end() : session.abort())));
}

/** What a session that was opened is told as. */
export function openedSession(session: GatewaySession): unknown {
  const { id, key, baseUrl } = session;
  return { id, key, base_url: baseUrl, path_url: pathUrl(session) };
}

/** The base URL that has the key in it, for agents that cannot be given one. */
export function pathUrl({ baseUrl, key }: Pick<GatewaySession, "baseUrl" | "key">): string {
  const url = new URL(baseUrl);
  url.pathname = `/s/${key}/v1`;
  return String(url);
}

/** Takes a reward in. */
function giveReward(
  session: GatewaySession,
  body: Readonly<Record<string, unknown>>,
): unknown {
  ignoredFields(body, { used: ["reward", "answer"], ignored: [] });
  const fields = new Fields(body);
  const reward = fields.number("reward");
  if (reward === undefined) throw invalid('"reward" is missing: it must be a number', "reward");
  const answer = fields.text("answer");
  if (session.isOver) {
    throw new GatewayRefusal("The session has ended", { status: 410, reason: "session_ended" });
  }
  session.reward(reward, { answer });
  return { id: session.id, turns: session.turns.length };
}

/** A session that ended, with its rows in the form of `sglang-rl.rollout/2`. */
function endedSession({ id, end, reward, rows }: EndedSession): unknown {
  return { id, end, reward, rows: records(new RolloutBatch({ rows, shape: [rows.length] })) };
}

/** Rows in the form of `sglang-rl.rollout/2`. */
function records(batch: RolloutBatch): unknown[] {
  return [...jsonLines(batch)].map((line) => JSON.parse(line));
}
