/** A program that shows its page until it is ended. */
import { openDashboard } from "../../src/dashboard/mod.ts";
import { Monitor } from "../../src/telemetry/mod.ts";

using monitor = new Monitor({});
await using dashboard = await openDashboard({ monitor, everyMs: 100 });
await Deno.stdout.write(new TextEncoder().encode(dashboard.url));
await dashboard.finished;
