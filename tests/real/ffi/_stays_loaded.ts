/** Opens NCCL and the CUDA runtime on a thread, ends it, and prints which of them are still mapped. */
const libraries = JSON.parse(Deno.args[0]!);
const worker = new Worker(import.meta.resolve("./_opener.ts"), { type: "module" });
const opened = await new Promise<string[]>((resolve) => {
  worker.onmessage = ({ data }) => resolve(data);
  worker.postMessage(libraries);
});
worker.terminate();
// The thread's libraries are closed some milliseconds later, when its isolate is dropped.
const threads = () => [...Deno.readDirSync("/proc/self/task")].length;
const busy = threads();
for (let i = 0; i < 100 && threads() >= busy; i++) await new Promise((r) => setTimeout(r, 20));
const maps = Deno.readTextFileSync("/proc/self/maps");
const mapped = opened.map((path) => maps.includes(Deno.realPathSync(path)));
Deno.stdout.writeSync(
  new TextEncoder().encode(JSON.stringify({ ended: threads() < busy, mapped })),
);
