/**
 * For how long one request holds the event loop of a gateway: bodies that are as heavy as they can be
 * for their length, each kind by itself, and the longest time in which nothing else had a turn.
 *
 * Run as `deno run -A bench/gateway_gaps.ts [--tokenizer FOLDER] [--size 4194304] [--rounds 2]`. The
 * first round warms up. Processor time tells what the process itself did in the gap: on a busy machine
 * the gap is longer.
 */
// deno-lint-ignore-file no-console
import process from "node:process";
import { setImmediate } from "node:timers";
import { parseArgs } from "node:util";
import { EmbeddedServer } from "../src/embedded/mod.ts";
import { AsyncSGLang } from "../src/engine/mod.ts";
import { RecordingGateway } from "../src/gateway/mod.ts";
import { LocalTokenizer, SGLangWrapper } from "../src/policy/mod.ts";
import { heavyBodies } from "../tests/_support/gateway_heavy.ts";
import { tinyCheckpoint } from "../tests/unit/embedded/_support.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    tokenizer: { type: "string" },
    size: { type: "string", default: String(4 * 2 ** 20) },
    rounds: { type: "string", default: "2" },
    only: { type: "string" },
  },
});

const model = await tinyCheckpoint({ dtype: "float32" });
await using server = await EmbeddedServer.start({ model, seed: 1 });
await using engine = await AsyncSGLang.connect(server.url);
const tokenizer = values.tokenizer === undefined
  ? undefined
  : await LocalTokenizer.fromFolder(values.tokenizer);
const policy = new SGLangWrapper(engine, { tokenizer, generateKwargs: { maxNewTokens: 2 } });
await using gateway = await RecordingGateway.listen(policy);
const session = gateway.open();

const processorMs = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

/** Watches the loop; tells the longest gap and the most processor time of one turn. */
function watch(): () => { gapMs: number; processorMs: number } {
  let isOn = true;
  let [last, lastProcessor] = [performance.now(), processorMs()];
  let [gapMs, worked] = [0, 0];
  const look = () => {
    const [now, processor] = [performance.now(), processorMs()];
    gapMs = Math.max(gapMs, now - last);
    worked = Math.max(worked, processor - lastProcessor);
    [last, lastProcessor] = [now, processor];
    if (isOn) setImmediate(look);
  };
  setImmediate(look);
  return () => {
    isOn = false;
    return { gapMs, processorMs: worked };
  };
}

const headers = { authorization: `Bearer ${session.key}`, "content-type": "application/json" };
for (let round = 1; round <= Number(values.rounds); round++) {
  let worst = 0;
  for (const { name, path, body } of heavyBodies(Number(values.size))) {
    if (values.only !== undefined && values.only !== name) continue;
    const url = gateway.url + path.replace("ID", session.id);
    const bytes = new TextEncoder().encode(body);
    await new Promise((resolve) => setTimeout(resolve, 20));
    const watched = watch();
    const start = performance.now();
    const response = await fetch(url, { method: "POST", headers, body: bytes });
    const answer = await response.text();
    const took = performance.now() - start;
    const { gapMs, processorMs } = watched();
    worst = Math.max(worst, processorMs);
    if (round < Number(values.rounds)) continue;
    console.log(
      `${name}: ${bytes.length} bytes, ${response.status} in ${took.toFixed(0)} ms, longest gap ` +
        `${gapMs.toFixed(1)} ms, ${processorMs.toFixed(1)} ms of the processor; ${
          answer.slice(0, 90)
        }`,
    );
  }
  console.log(`round ${round}: at most ${worst.toFixed(1)} ms of the processor in one turn`);
}
