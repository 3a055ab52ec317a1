import { deepEqual, match } from "node:assert/strict";
import { findSizeFaults, MOST_LINES } from "../../../scripts/sizes.ts";

const fits = { path: "src/a.ts", lines: MOST_LINES };
const long = { path: "src/b.ts", lines: MOST_LINES + 1 };

Deno.test("a file above the limit is a fault, unless its exception has a reason", () => {
  deepEqual(findSizeFaults([fits], {}), []);
  deepEqual(findSizeFaults([fits, long], { "src/b.ts": "a table" }), []);
  const [fault, ...others] = findSizeFaults([fits, long], {});
  match(fault!, /src\/b\.ts has 401 lines/);
  deepEqual(others, []);
  match(findSizeFaults([long], { "src/b.ts": " " })[0]!, /needs a reason/);
});

Deno.test("an exception that nobody needs is a fault", () => {
  match(findSizeFaults([fits], { "src/a.ts": "was long" })[0]!, /take its exception out/);
  match(findSizeFaults([], { "src/gone.ts": "was long" })[0]!, /take its exception out/);
});
