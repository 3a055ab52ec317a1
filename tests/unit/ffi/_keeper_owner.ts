/** Starts a keeper with a will and a rank that cannot open, tells what came, and is killed. */
import { Keeper, openRankIn } from "../../../ffi/keeper/keeper.ts";

const [url] = Deno.args as [string];
const keeper = await Keeper.start();
const failure = await openRankIn(keeper, { libraries: { cudart: "/nowhere/libcudart.so" } })
  .then(() => "opened", (error: Error) => error.name);
await keeper.setWill({ url, headers: { authorization: "Bearer old" }, calls: [] });
await keeper.setWill({
  url,
  headers: { authorization: "Bearer key" },
  calls: [
    { path: "/destroy_weights_update_group", body: { group_name: "g" } },
    { path: "/refused", body: {} },
    { path: "/continue_generation", body: {} },
  ],
});
Deno.stdout.writeSync(new TextEncoder().encode(`${failure}\n`));
// Until it is killed: its input does not end before.
for await (const _ of Deno.stdin.readable) { /* nothing is said */ }
