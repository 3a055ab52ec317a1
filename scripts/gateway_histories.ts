/**
 * Random sessions of agents against the gateway: what was sent and sampled must be in the rows, each
 * id once, log-probabilities bit for bit; memory must stay flat.
 *
 * Run as `deno run -A --v8-flags=--expose-gc scripts/gateway_histories.ts [SESSIONS] [SEED]`.
 */
// deno-lint-ignore-file no-console
import { runHistories } from "../tests/_support/gateway_histories.ts";
import { turnTemplates } from "../tests/_support/turn_templates.ts";

const sessions = Number(Deno.args[0] ?? 10_000);
const seed = Number(Deno.args[1] ?? 1);
// One that never shows what assistants said refuses conversations that were edited.
const templates = Object.keys(turnTemplates).filter((name) =>
  name !== "leaves it out"
) as (keyof typeof turnTemplates)[];
const each = Math.ceil(sessions / templates.length);

function heapMiB(): number {
  (globalThis as { gc?: () => void }).gc?.();
  return Deno.memoryUsage().heapUsed / 2 ** 20;
}

let total = 0;
let turns = 0;
let aborted = 0;
let first: number | null = null;
for (const [index, template] of templates.entries()) {
  const counted = await runHistories({ seed: seed + index, sessions: each, template });
  total += counted.sessions;
  turns += counted.turns;
  aborted += counted.aborted;
  const heap = heapMiB();
  first ??= heap;
  console.log(
    `${total} sessions, ${turns} turns (${aborted} left): all in rows, once, bit for bit; ` +
      `a template that ${template}: ${counted.branches} branches, ${counted.appended} turns ` +
      `appended; heap ${heap.toFixed(0)} MiB`,
  );
}
if (heapMiB() > 1.5 * first! + 32) throw new Error("Memory grew");
