/** Rows of a rollout file, as JSON lines. */

/** One row; what is not given is that of an ordinary one. */
export function rowLine(more: Readonly<Record<string, unknown>> = {}): string {
  return JSON.stringify({
    schema: "sglang-rl.rollout/2",
    dialog: 0,
    attempt: 0,
    group: 0,
    member: 0,
    environment: 0,
    turn: 0,
    parent: null,
    branch: 0,
    messages: [{ role: "user", content: "Say something" }],
    response: { role: "assistant", content: "something" },
    prompt_ids: [1, 2, 3],
    response_ids: [10, 11],
    log_probs: [-0.1, -3],
    token_versions: [4, 5],
    versions_exact: true,
    weight_versions: [{ version: "4", start: 0, end: 1 }, { version: "5", start: 1, end: 2 }],
    server: "http://127.0.0.1:30000",
    reward: 1,
    done: true,
    truncated: false,
    finish_reason: "stop",
    stale: false,
    info: {},
    ...more,
  });
}

/** Writes a file of `groups` groups of 4 dialogs; rewards are 0 to 3. */
export async function writeRows(
  path: string,
  groups: number,
  more: readonly string[] = [],
): Promise<void> {
  using file = await Deno.open(path, { write: true, create: true, truncate: true });
  const encoder = new TextEncoder();
  for (let group = 0; group < groups; group++) {
    const lines = [0, 1, 2, 3].map((member) =>
      rowLine({
        dialog: group * 4 + member,
        group,
        member,
        reward: member,
        response: { role: "assistant", content: `answer ${group * 4 + member}` },
      })
    );
    await file.write(encoder.encode(lines.join("\n") + "\n"));
  }
  if (more.length > 0) await file.write(encoder.encode(more.join("\n") + "\n"));
}
