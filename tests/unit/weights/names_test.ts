/** What is sent is compared with the model, name by name. */
import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import fc from "fast-check";
import type { FleetServer } from "../../../src/weights/fleet/server.ts";
import { resolveOptions } from "../../../src/weights/resolved_options.ts";
import { checkTensors, referencesOf } from "../../../src/weights/sync/names.ts";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { metadataOf, SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { safetensors, stateDict } from "../../../src/weights/source/mod.ts";
import { tinyCheckpoint } from "../embedded/_support.ts";

const tensor = (name: string) => ({ name, dtype: "float32", shape: [2] }) as const;
const model = new Map(["a", "b"].map((name) => [name, tensor(name)]));

Deno.test("a weight that is there twice is refused, declared or not", () => {
  for (const kind of ["declared", "model"] as const) {
    const options = { reference: model, referenceLabel: "m", kind, tied: new Map() };
    equal(checkTensors([tensor("a"), tensor("b")], options).send.length, 2);
    throws(
      () => checkTensors([tensor("a"), tensor("b"), tensor("a")], options),
      { code: "validation", message: /Weight 'a' is there twice/ },
    );
  }
});

Deno.test("names are read from the tokenizer's folder where the model's is gone", async () => {
  const folder = await tinyCheckpoint();
  const options = resolveOptions({ serverUrl: "http://a", env: () => undefined });
  const serverOf = (modelPath: string, tokenizerPath: string | null) =>
    [{ served: { modelPath, tokenizerPath } }] as unknown as FleetServer[];
  const source = stateDict({ x: { data: Float32Array.of(1), shape: [1] } });
  await using open = await source.open({ signal: new AbortController().signal });
  const request = { declared: undefined, options, signal: undefined };
  const [found] = await referencesOf(request, open, serverOf("/gone", folder));
  deepEqual(
    [...found!.reference.keys()].toSorted(),
    [...(await metadataOf(safetensors(folder))).keys()].toSorted(),
  );
  for (const tokenizer of [null, "/gone", "/gone too"]) {
    await rejects(referencesOf(request, open, serverOf("/gone", tokenizer)), {
      code: "validation",
      message: /could not be checked.*nameCheck: "where_possible" or "off"/s,
    });
  }
});

Deno.test("each server's model is compared, whichever of them differs and in what", async () => {
  const [tied, same, untied, narrow] = await Promise.all([
    tinyCheckpoint({ tied: true, dtype: "float32" }),
    tinyCheckpoint({ tied: true, dtype: "float32", seed: 1 }),
    tinyCheckpoint({ tied: false, dtype: "float32" }),
    tinyCheckpoint({ tied: true, dtype: "bfloat16" }),
  ]);
  const sync = async (models: readonly string[], source: string) => {
    await using stack = new AsyncDisposableStack();
    const workers: string[] = [];
    for (const model of models) {
      workers.push(stack.use(await EmbeddedServer.start({ model })).url);
    }
    const options = { workers, transport: "gloo", env: () => undefined } as const;
    const sender = stack.use(new SGLangWeightSyncScheme(options).createSender());
    await sender.initAllWorkersGroup();
    return await sender.updateWeights(safetensors(source));
  };
  equal((await sync([tied, same, tied], same)).servers.length, 3);
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom<[string, RegExp]>(
        [untied, /lm_head\.weight/],
        [narrow, /expected dtype=bfloat16/],
      ),
      fc.integer({ min: 1, max: 2 }),
      async ([other, message], at) => {
        const models = [tied, same];
        models.splice(at, 0, other);
        await rejects(sync(models, tied), { code: "validation", message });
      },
    ),
    { numRuns: 6 },
  );
});
