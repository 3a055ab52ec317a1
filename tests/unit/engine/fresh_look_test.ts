import assert from "node:assert/strict";
import fc from "fast-check";
import { FreshLook } from "../../../src/engine/fresh_look.ts";

Deno.test("whoever asks for a look gets one that began no sooner, however many ask and fail", async () => {
  // "ask", or the end of the look that runs: well or badly.
  const step = fc.constantFrom("ask", "ask", "end", "fail");
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const shared = new FreshLook();
      const asked: Promise<void>[] = [];
      let began = 0;
      let running: PromiseWithResolvers<void>[] = [];
      let mostAtOnce = 0;
      const end = async (isGood: boolean) => {
        const look = running.shift();
        if (isGood) look?.resolve();
        else look?.reject(new Error("it failed"));
        for (let i = 0; i < 10; i++) await Promise.resolve();
      };
      for (const what of steps) {
        if (what !== "ask") {
          await end(what === "end");
          continue;
        }
        const before = began;
        const look = shared.take(() => {
          began++;
          const work = Promise.withResolvers<void>();
          running = [...running, work];
          mostAtOnce = Math.max(mostAtOnce, running.length);
          return work.promise;
        });
        asked.push(look.catch(() => {}).then(() => assert.ok(began > before)));
      }
      while (running.length > 0) await end(true);
      await Promise.all(asked);
      assert.ok(mostAtOnce <= 1);
      assert.ok(began <= asked.length);
    }),
  );
});

Deno.test("all who ask while a look runs share the next one", async () => {
  const shared = new FreshLook();
  const works: PromiseWithResolvers<void>[] = [];
  const look = () => {
    works.push(Promise.withResolvers<void>());
    return works.at(-1)!.promise;
  };
  const first = shared.take(look);
  const later = [1, 2, 3].map(() => shared.take(look));
  assert.equal(works.length, 1);
  works[0]!.resolve();
  await first;
  await Promise.resolve();
  assert.equal(works.length, 2);
  works[1]!.resolve();
  await Promise.all(later);
  assert.equal(works.length, 2);
});
