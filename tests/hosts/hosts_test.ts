/**
 * Weight sync between hosts: a trainer and two servers, each in a network namespace of its own,
 * without loopback. `deno task test:hosts`; needs root and iproute2.
 *
 * The trainer's host has a link to each server's; the servers reach each other through it.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { makeTinyCheckpoint } from "../../src/embedded/mod.ts";

const cli = new URL("../../src/cli/mod.ts", import.meta.url).pathname;
const hosts = ["a", "b"] as const;
const prefix = `srl${Deno.pid % 10_000}`;
const addressOf = { a: "10.77.1.2", b: "10.77.2.2" } as const;
const trainerAddress = { a: "10.77.1.1", b: "10.77.2.1" } as const;

async function ip(...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command("ip", { args }).output();
  if (!success) throw new Error(`ip ${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
}

/** Makes the namespaces and their links; disposing takes them away. */
async function makeHosts(): Promise<AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  const add = async (name: string) => {
    await ip("netns", "add", `${prefix}-${name}`);
    stack.defer(() => ip("netns", "del", `${prefix}-${name}`));
  };
  await add("t");
  await ip("netns", "exec", `${prefix}-t`, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward");
  for (const host of hosts) {
    await add(host);
    const [ours, theirs] = [`${prefix}t${host}`, `${prefix}${host}`];
    await ip(
      "link",
      "add",
      ours,
      "netns",
      `${prefix}-t`,
      "type",
      "veth",
      "peer",
      "name",
      theirs,
      "netns",
      `${prefix}-${host}`,
    );
    await ip("-n", `${prefix}-t`, "addr", "add", `${trainerAddress[host]}/24`, "dev", ours);
    await ip("-n", `${prefix}-t`, "link", "set", ours, "up");
    await ip("-n", `${prefix}-${host}`, "addr", "add", `${addressOf[host]}/24`, "dev", theirs);
    await ip("-n", `${prefix}-${host}`, "link", "set", theirs, "up");
    await ip("-n", `${prefix}-${host}`, "route", "add", "default", "via", trainerAddress[host]);
  }
  const owned = stack.move();
  return { [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** The command line on a host. */
function on(host: "t" | "a" | "b", args: readonly string[]): Deno.Command {
  return new Deno.Command("ip", {
    args: [
      "netns",
      "exec",
      `${prefix}-${host}`,
      Deno.execPath(),
      "run",
      "-A",
      "--no-check",
      "--quiet",
      cli,
      ...args,
    ],
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
}

async function run(args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await on("t", args).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

Deno.test("weights reach servers on other hosts, by an address that was found or given", async () => {
  const folder = await Deno.makeTempDir({ prefix: "sglang-rl-hosts-" });
  await using stack = new AsyncDisposableStack();
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  for (const step of [0, 1, 2]) {
    await makeTinyCheckpoint(join(folder, `step-${step}`), { seed: step });
  }
  stack.use(await makeHosts());
  for (const host of hosts) {
    const server = on(host, [
      ...["serve", "--embedded", join(folder, "step-0")],
      ...["--host", addressOf[host], "--port", "30000"],
    ]).spawn();
    stack.defer(async () => {
      server.kill("SIGTERM");
      await Promise.all([server.stdout.cancel(), server.stderr.cancel(), server.status]);
    });
  }
  const servers = hosts.map((host) => `http://${addressOf[host]}:30000`).join(",");
  await run(["status", "-s", servers, "--wait", "60"]);
  const ways = [["step-1"], ["step-2", "--master-address", trainerAddress.b]] as const;
  for (const [step, ...more] of ways) {
    const [report] = (await run(["sync", join(folder, step), "-s", servers, "--json", ...more]))
      .trim().split("\n").map((line) => JSON.parse(line));
    assert.equal(report.transport, "gloo");
    assert.equal(report.servers.length, 2);
    const states = (await run(["status", "-s", servers, "--json"])).trim().split("\n");
    assert.deepEqual(states.map((line) => JSON.parse(line).weight_version), [step, step]);
    // Greedy tokens of both hosts are the same.
    const texts = await Promise.all(
      servers.split(",").map(async (url) => {
        const out = await run(["generate", "Hello", "-s", url, "-t", "0", "-m", "8", "--json"]);
        return JSON.parse(out).ids.join();
      }),
    );
    assert.equal(texts[0], texts[1]);
  }
});
