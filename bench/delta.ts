/**
 * Bytes and seconds of a delta beside a copy of the whole file, for random sparse updates of a
 * bfloat16 checkpoint. Needs no server.
 *
 * Run as `deno run -A bench/delta.ts [MiB]`.
 */
// deno-lint-ignore-file no-console
import { join } from "node:path";
import { writeSafetensors } from "../src/checkpoint/mod.ts";
import { Follower, publishDelta } from "../src/delta/mod.ts";
import { seeded } from "../tests/_support/seeded.ts";

const mebibytes = Number(Deno.args.at(-1)) > 0 ? Number(Deno.args.at(-1)) : 256;
const count = mebibytes * 2 ** 19;
const folder = await Deno.makeTempDir({ prefix: "sglang-rl-delta-" });
const random = seeded(1);

async function write(name: string, data: Uint16Array): Promise<string> {
  const path = join(folder, name);
  await Deno.mkdir(path, { recursive: true });
  await writeSafetensors(join(path, "model.safetensors"), [
    { name: "w", dtype: "bfloat16", shape: [count], data },
  ]);
  return path;
}

try {
  // Weights of a trained model: a normal distribution around 0 has few exponents.
  const base = new Uint16Array(count);
  const one = new Float32Array(1);
  const bits = new Uint32Array(one.buffer);
  for (let i = 0; i < count; i++) {
    one[0] = (random() + random() + random() - 1.5) * 0.04;
    base[i] = bits[0]! >>> 16;
  }
  const first = await write("base", base);
  console.log("share     delta / whole   publish s   follow s   whole copy s");
  for (const share of [0.01, 0.1, 1]) {
    const store = join(folder, `store-${share}`), local = join(folder, `local-${share}`);
    await Deno.mkdir(local);
    await publishDelta(store, first, { version: "base" });
    const follower = new Follower({ store, folder: local });
    const whole = (await follower.update())!;
    // A step of an optimizer moves an element by a few units in its last place.
    const next = base.map((x) => random() < share ? x + 1 + Math.floor(random() * 4) : x);
    const path = await write("next", next);
    const startedMs = performance.now();
    const report = await publishDelta(store, path, { version: "next" });
    const publishMs = performance.now() - startedMs;
    const followed = (await follower.update())!;
    const ratio = (followed.bytesRead / report.byteLength).toFixed(3);
    const seconds = (ms: number) => (ms / 1000).toFixed(2);
    console.log(
      `${String(share * 100).padStart(3)} %     ${ratio.padEnd(16)}${
        seconds(publishMs).padEnd(12)
      }` +
        `${seconds(followed.prepareMs).padEnd(11)}${seconds(whole.prepareMs)}`,
    );
    await Deno.remove(store, { recursive: true });
    await Deno.remove(local, { recursive: true });
  }
} finally {
  await Deno.remove(folder, { recursive: true });
}
