/**
 * Requests per second of the client against a trivial local server, beside a Python aiohttp client
 * (what TorchRL, slime and verl send with) in the same run. Ours checks the request and brings the
 * answer into typed arrays; aiohttp only parses its JSON.
 *
 * Run as `deno run -A bench/client.ts [--requests 4000] [--rounds 3] [--python PYTHON]`. The Python
 * needs aiohttp; default the one of `deno task setup:sglang`. Rounds take turns, so that a busy
 * machine slows both.
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { pythonOf } from "../tests/_support/real.ts";
import { readLines } from "../src/internal/lines.ts";
import { SGLangClient } from "../src/client/mod.ts";
import { median } from "../tests/_support/median.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    requests: { type: "string", default: "4000" },
    rounds: { type: "string", default: "3" },
    python: { type: "string", default: pythonOf() },
  },
});
const rounds = Number(values.rounds);
const here = (name: string) => new URL(name, import.meta.url).pathname;

await using server = new Deno.Command(Deno.execPath(), {
  args: ["run", "--allow-net=127.0.0.1", here("client_server.ts")],
  stdout: "piped",
}).spawn();
const port = (await readLines(server.stdout).next()).value;
const url = `http://127.0.0.1:${port}`;

async function ours(concurrency: number, requests: number): Promise<number> {
  using client = new SGLangClient({ url });
  const text = "x".repeat(400);
  let left = requests;
  const worker = async () => {
    while (left-- > 0) {
      const { ids } = await client.generate({
        text,
        returnLogProbs: true,
        samplingParams: { maxNewTokens: 16 },
      });
      if (ids.length !== 16) throw new Error(`${ids.length} ids`);
    }
  };
  const started = performance.now();
  await Promise.all(Array.from({ length: concurrency }, worker));
  return requests / ((performance.now() - started) / 1000);
}

async function aiohttp(concurrency: number, requests: number): Promise<number> {
  const { code, stdout } = await new Deno.Command(values.python, {
    args: [here("client_aiohttp.py"), url, `${concurrency}`, `${requests}`],
    stderr: "inherit",
  }).output();
  if (code !== 0) throw new Error("the aiohttp client failed; give a Python that has aiohttp");
  const { seconds } = JSON.parse(new TextDecoder().decode(stdout));
  return requests / seconds;
}

await ours(16, 500);
console.log(`requests per second, median of ${rounds} (${values.requests} requests each)`);
console.log("concurrency   this library   aiohttp   ratio");
for (const concurrency of [1, 64, 256]) {
  const requests = concurrency === 1 ? Number(values.requests) / 4 : Number(values.requests);
  const own: number[] = [];
  const python: number[] = [];
  for (let round = 0; round < rounds; round++) {
    own.push(await ours(concurrency, requests));
    python.push(await aiohttp(concurrency, requests));
  }
  const [a, b] = [median(own), median(python)];
  console.log(
    `${`${concurrency}`.padStart(11)}${a.toFixed(0).padStart(15)}${b.toFixed(0).padStart(10)}` +
      `${(a / b).toFixed(2).padStart(8)}`,
  );
}
