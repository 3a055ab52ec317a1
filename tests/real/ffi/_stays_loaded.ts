/** Opens NCCL and the CUDA runtime on a thread, ends it, and prints which of them are still mapped. */
const libraries = JSON.parse(Deno.args[0]!);
const worker = new Worker(import.meta.resolve("./_opener.ts"), { type: "module" });
const opened = await new Promise<string[]>((resolve) => {
  worker.onmessage = ({ data }) => resolve(data);
  worker.postMessage(libraries);
});
const began = hasWorkerThread();
worker.terminate();
// The thread's libraries are closed some milliseconds later, when its isolate is dropped.
for (let i = 0; i < 500 && hasWorkerThread(); i++) await new Promise((r) => setTimeout(r, 20));
const ended = !hasWorkerThread();
const maps = Deno.readTextFileSync("/proc/self/maps");
const mapped = opened.map((path) => maps.includes(Deno.realPathSync(path)));
Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify({ began, ended, mapped })));

/** Deno names a Worker's thread `worker-N`; its other threads come and go. */
function hasWorkerThread(): boolean {
  return [...Deno.readDirSync("/proc/self/task")].some(({ name }) => {
    try {
      return Deno.readTextFileSync(`/proc/self/task/${name}/comm`).startsWith("worker-");
    } catch {
      // The thread has just ended.
      return false;
    }
  });
}
