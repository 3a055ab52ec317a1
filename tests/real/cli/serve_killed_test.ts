/** `serve` with the real SGLang and router, of which replicas die. */
import assert from "node:assert/strict";
import { controlledServers } from "../../../src/cli/control_client.ts";
import { makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { sleep } from "../../../src/internal/deadline.ts";
import { freePort } from "../../_support/free_port.ts";
import { routerPython, serverPython } from "../../_support/real.ts";
import { jsonLines, run } from "../../unit/cli/_support.ts";

const program = new URL("../../../src/cli/mod.ts", import.meta.url).pathname;

Deno.test("serve with two replicas outlives one that is killed, and obeys the other commands", async (t) => {
  const folder = await Deno.makeTempDir({ prefix: "sglang-rl-serve-" });
  await makeTinyCheckpoint(`${folder}/step-0`, { seed: 0 });
  await makeTinyCheckpoint(`${folder}/step-1`, { seed: 1 });
  const control = `http://127.0.0.1:${freePort()}`;
  const serve = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--no-check", "--quiet", program, "serve", `${folder}/step-0`, "-n", "2"],
      ...["--device=cpu", "--dtype=float32", "--arg=max-total-tokens=8192", "--json"],
      ...[`--python=${serverPython()}`, `--router-python=${routerPython()}`],
      ...[`--log-dir=${folder}/logs`, `--control-port=${new URL(control).port}`],
      "--arg=mem-fraction-static=0.1",
    ],
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  try {
    const lines = serve.stdout.pipeThrough(new TextDecoderStream())[Symbol.asyncIterator]();
    const { url, servers } = JSON.parse((await lines.next()).value!) as {
      url: string;
      servers: string[];
    };
    const victim = servers[0]!;
    const state = async () => {
      const fleet = await controlledServers({
        url: control,
        key: undefined,
        signal: AbortSignal.timeout(10_000),
      });
      return fleet.find((server) => server.url === victim)!;
    };
    const untilHealthy = async () => {
      for (let look = 0; (await state()).state !== "healthy"; look++) {
        assert.ok(look < 600, `it is ${JSON.stringify(await state())}`);
        await sleep(500);
      }
    };
    let version = "";

    await t.step("sync tells serve which checkpoint the servers have", async () => {
      const args = ["sync", `${folder}/step-1`, "-r", url, "--control", control, "--json"];
      const { code, out, err } = await run(args);
      assert.equal(code, 0, err);
      version = String(jsonLines(out)[0]!.version);
    });

    await t.step(
      "a replica killed with -9 is back with the synced weights, no request fails",
      async () => {
        const { pid } = await state();
        const stop = new AbortController();
        const asking = (async () => {
          while (!stop.signal.aborted) {
            const { code, err } = await run([
              "generate",
              "Hello",
              "-r",
              url,
              "-s",
              servers[1]!,
              "-m",
              "4",
            ]);
            assert.equal(code, 0, err);
          }
        })();
        Deno.kill(pid!, "SIGKILL");
        while ((await state()).state === "healthy") await sleep(50);
        await untilHealthy();
        stop.abort();
        await asking;
        const { code, out } = await run(["status", "-r", url, "--json"]);
        assert.equal(code, 0, out);
        assert.deepEqual(jsonLines(out).map((one) => one.weight_version), [version, version]);
      },
    );

    await t.step("drain, drain --undo, restart and logs", async () => {
      const order = (...args: string[]) => run([...args, "--control", control]);
      assert.deepEqual(await order("drain", victim), {
        code: 0,
        out: `${victim}: drained\n`,
        err: "",
      });
      assert.equal((await order("drain", servers[1]!)).code, 1);
      assert.equal((await order("drain", victim, "--undo")).code, 0);
      await untilHealthy();
      const { pid } = await state();
      assert.equal((await order("restart", victim)).code, 0);
      const after = await state();
      assert.equal(after.state, "healthy");
      assert.notEqual(after.pid, pid);
      const logs = await order("logs", victim, "-n", "5");
      assert.equal(logs.out.trimEnd().split("\n").length, 5);
    });

    await lines.return?.();
  } finally {
    try {
      serve.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await serve.status;
    await Deno.remove(folder, { recursive: true });
  }
});
