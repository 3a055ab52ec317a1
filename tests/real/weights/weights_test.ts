/** One start of two servers for all tests of weight sync. */
import { writeFaultTable } from "../../_support/faults.ts";
import { Fleet } from "../../_support/weights.ts";
import { faults } from "./faults.ts";
import { killing } from "./killing.ts";
import { landing } from "./landing.ts";

let fleet: Fleet | undefined;

Deno.test.beforeAll(async () => {
  fleet = await Fleet.start();
});
Deno.test.afterAll(async () => {
  await fleet?.[Symbol.asyncDispose]();
  await writeFaultTable();
});

landing(() => fleet!);
faults(() => fleet!);
// Servers that were given from outside are not ours to kill.
if (!Deno.env.get("SGLANG_RL_OWN_SERVERS")) killing(() => fleet!);
