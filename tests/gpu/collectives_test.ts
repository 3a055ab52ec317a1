/** NCCL's calls beside broadcast, between two processes of ours. */
import { deepEqual, equal } from "node:assert/strict";
import { Nccl } from "../../ffi/nccl/mod.ts";
import { libraries, record } from "./support/gpu.ts";

const script = new URL("./support/raw_rank.ts", import.meta.url).pathname;
const count = 1000;

Deno.test({
  name: "two ranks reduce, send, receive and register memory of NCCL's own",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    const id = Nccl.open(libraries).uniqueId().toHex();
    const ranks = await Promise.all([0, 1].map(async (rank) => {
      const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", "--no-check", "--cached-only", script, String(rank), id],
        env: { NCCL_HOSTID: `rank-${rank}` },
        signal: AbortSignal.timeout(60_000),
      }).output();
      equal(code, 0, new TextDecoder().decode(stderr));
      const line = new TextDecoder().decode(stdout).split("\n").find((one) => one.startsWith("{"));
      return JSON.parse(line!);
    }));
    const values = (valueOf: (i: number) => number) =>
      Array.from({ length: count }, (_, i) => valueOf(i));
    for (const [rank, { place, sum, max, exchanged }] of ranks.entries()) {
      deepEqual(place, [rank, 2]);
      deepEqual(sum, values((i) => 2 * i + 1000));
      deepEqual(max, values((i) => Math.max(i, count - i)));
      deepEqual(exchanged, values((i) => i * (2 - rank)));
    }
    record("collectives", { registered: ranks.map(({ registered }) => registered) });
  },
});
