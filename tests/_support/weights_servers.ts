/**
 * Starts the servers of the weight tests in a process of its own and prints their addresses and
 * process ids; ends them when its input ends. Their logs would otherwise be read within the tests,
 * which the sanitizers take for a leak.
 */
import { type SGLangVersion, startRealServer, type TinyModel } from "./real.ts";

const plan = JSON.parse(Deno.args[0]!) as { version: SGLangVersion; model: TinyModel }[];
await using stack = new AsyncDisposableStack();
const launches = await Promise.allSettled(plan.map((one) => startRealServer(one)));
const servers = launches.filter((one) => one.status === "fulfilled").map(({ value }) => value);
for (const server of servers) stack.use(server);
for (const launch of launches) if (launch.status === "rejected") throw launch.reason;
const lines = servers.map(({ url, pid }) => ({ url, pid }));
Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(lines)}\n`));
for await (const _ of Deno.stdin.readable) { /* nothing is said; its end counts */ }
