/**
 * Changed bodies over HTTP against all routes of a gateway before an embedded server, while an honest
 * agent talks beside them: clear errors only, the agent sees nothing of it, memory stays flat.
 *
 * Run as `deno run -A --v8-flags=--expose-gc scripts/fuzz_gateway.ts [--bodies 100000] [--seed 1]`.
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { EmbeddedServer, makeTinyCheckpoint } from "../src/embedded/mod.ts";
import { AsyncSGLang } from "../src/engine/mod.ts";
import { RecordingGateway } from "../src/gateway/mod.ts";
import { SGLangWrapper } from "../src/policy/mod.ts";
import { fuzzGateway } from "../tests/_support/gateway_fuzz.ts";

const { values } = parseArgs({
  options: {
    bodies: { type: "string", default: "100000" },
    seed: { type: "string", default: "1" },
  },
});
const bodies = Number(values.bodies);
/** Each part has a gateway of its own, so that what one keeps is not counted as growth. */
const PARTS = 10;

const model = await Deno.makeTempDir({ prefix: "fuzz-gateway-" });
try {
  await makeTinyCheckpoint(model);
  await using server = await EmbeddedServer.start({ model, seed: 1 });
  await using engine = await AsyncSGLang.connect(server.url);
  const generateKwargs = { maxNewTokens: 2, ignoreEos: true };
  const policy = new SGLangWrapper(engine, { generateKwargs });
  const statuses = new Map<number, number>();
  let first: number | null = null;
  let sent = 0;
  let witnessed = 0;
  for (let part = 0; part < PARTS; part++) {
    await using gateway = await RecordingGateway.listen(policy, {
      limits: { maxSamples: 4 },
      sessionLimits: { maxConcurrent: 1000 },
    });
    const seed = Number(values.seed) + part;
    const told = await fuzzGateway(gateway, { bodies: Math.ceil(bodies / PARTS), seed });
    for (const [status, count] of told.statuses) {
      statuses.set(status, (statuses.get(status) ?? 0) + count);
    }
    sent += told.bodies;
    witnessed += told.witnessed;
    (globalThis as { gc?: () => void }).gc?.();
    const heap = Deno.memoryUsage().heapUsed / 2 ** 20;
    first ??= heap;
    const counts = [...statuses].sort(([a], [b]) => a - b).map(([status, n]) => `${status}: ${n}`);
    console.log(
      `${sent} bodies (${counts.join(", ")}); ${witnessed} turns of the honest agent whole; ` +
        `heap ${heap.toFixed(0)} MiB`,
    );
    if (heap > 1.5 * first + 32) throw new Error("Memory grew");
  }
} finally {
  await Deno.remove(model, { recursive: true });
}
