/** Owns a real server; prints its pid at once and its address when it is ready, then waits. */
// deno-lint-ignore-file no-console
import { startRealServer } from "../../_support/real.ts";

const server = await startRealServer({
  onProgress: ({ elapsedMs }) => console.log(`loading ${Math.round(elapsedMs)}`),
});
console.log(`ready ${server.pid} ${server.url}`);
await server.wait();
