/** A program that owns a process tree and ends in the way that its argument names. */
import { ProcessTree } from "../../../src/process/mod.ts";

// A main process that is deaf to SIGTERM, with children in its session and in sessions of their own,
// one of which has lost its parent.
const script = `
trap '' TERM
sleep 300 & a=$!
setsid sleep 301 & b=$!
(setsid sh -c 'sleep 302 & echo orphan $!; exit') &
wait $!
echo pids $$ $a $b
while :; do sleep 0.05; done
`;

const way = Deno.args[0];
const abort = new AbortController();
const found = Promise.withResolvers<void>();
const pids: string[] = [];

const tree = await ProcessTree.launch({
  command: ["sh", "-c", script],
  stopGraceMs: 100,
  orphanGraceMs: 100,
  signal: abort.signal,
  onLine(line) {
    const [word, ...rest] = line.split(" ");
    if (word !== "pids" && word !== "orphan") return;
    pids.push(...rest);
    if (pids.length === 4) found.resolve();
  },
});
// Holds the event loop of this process; the test above waits for its end.
// deno-lint-ignore sglang-rl/no-real-time-in-unit-tests
const hold = setTimeout(() => {}, 2 ** 31 - 1);
await found.promise;
clearTimeout(hold);
// deno-lint-ignore no-console
console.log(pids.join(" "));

if (way === "Deno.exit") Deno.exit(0);
if (way === "an uncaught error") throw new Error("on purpose");
if (way === "the abort signal") abort.abort();
if (way === "dispose") await tree[Symbol.asyncDispose]();
// At a natural end nothing is left to do: the tree does not hold the event loop.
if (way !== "its natural end") await tree.wait();
