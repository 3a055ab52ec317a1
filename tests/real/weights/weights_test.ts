/** One start of two servers for all tests of weight sync. */
import { Fleet } from "../../_support/weights.ts";
import { landing } from "./landing.ts";

let fleet: Fleet | undefined;

Deno.test.beforeAll(async () => {
  fleet = await Fleet.start();
});
Deno.test.afterAll(async () => {
  await fleet?.[Symbol.asyncDispose]();
});

landing(() => fleet!);
