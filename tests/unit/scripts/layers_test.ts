import assert from "node:assert/strict";
import { type Edge, findLayerFaults, findUnusedArrows, layers } from "../../../scripts/layers.ts";

function edge(from: string, to: string, kind: Edge["kind"] = "value"): Edge {
  return { from, to, kind };
}

Deno.test("imports that point down are fine", () => {
  assert.deepEqual(
    findLayerFaults([
      edge("src/client/client.ts", "src/errors.ts"),
      edge("src/server/server.ts", "src/process/mod.ts"),
      edge("src/client/client.ts", "src/client/types.ts"),
      edge("ffi/nccl/group.ts", "src/collective/group.ts", "type"),
      edge("src/weights/transport/nccl.ts", "ffi/nccl/group.ts", "dynamic"),
    ]),
    [],
  );
});

Deno.test("an import of another leaf, of a higher part or of ffi is named", () => {
  assert.deepEqual(
    findLayerFaults([
      edge("src/client/a.ts", "src/process/mod.ts"),
      edge("src/errors.ts", "src/internal/clock.ts"),
      edge("src/weights/a.ts", "ffi/nccl/group.ts"),
      edge("src/engine/a.ts", "src/embedded/mod.ts", "dynamic"),
      edge("mod.ts", "src/internal/clock.ts"),
    ]),
    [
      "src/client/a.ts imports src/process/mod.ts: src/client must not know src/process",
      "src/errors.ts imports src/internal/clock.ts: src/errors.ts must not know src/internal",
      "src/weights/a.ts imports ffi/nccl/group.ts: src/weights must not know ffi",
      "src/engine/a.ts dynamically imports src/embedded/mod.ts: src/engine must not know src/embedded",
      "mod.ts imports src/internal/clock.ts: mod.ts must not know src/internal",
    ],
  );
});

Deno.test("ffi is reached by one dynamic import only", () => {
  const faults = findLayerFaults([
    edge("src/weights/a.ts", "ffi/nccl/group.ts", "dynamic"),
    edge("src/weights/b.ts", "ffi/mod.ts", "dynamic"),
  ]);
  assert.deepEqual(faults, [
    "ffi is reached by 2 dynamic imports instead of one: src/weights/a.ts, src/weights/b.ts",
  ]);
});

Deno.test("a file of no part, and a package from elsewhere than npm, are named", () => {
  assert.deepEqual(findLayerFaults([edge("src/new/a.ts", "src/errors.ts")]), [
    "src/new/a.ts belongs to no part: add it to scripts/layers.ts",
  ]);
  assert.deepEqual(findLayerFaults([edge("src/client/a.ts", "jsr:@std/assert")]), [
    "src/client/a.ts imports jsr:@std/assert: only npm: and node: can be had",
  ]);
});

Deno.test("the arrows make no circle", () => {
  const visit = (part: string, path: readonly string[]): void => {
    assert.ok(!path.includes(part), [...path, part].join(" -> "));
    for (const next of layers[part]!.values) visit(next, [...path, part]);
  };
  for (const part of Object.keys(layers)) visit(part, []);
});

Deno.test("an arrow that no import uses is named", () => {
  const unused = findUnusedArrows([edge("src/client/a.ts", "src/http/mod.ts")]);
  assert.ok(!unused.some((line) => line.startsWith("src/client ")));
  assert.ok(unused.includes(
    "src/rollout may import src/client (type) and does not: take the arrow out of scripts/layers.ts",
  ));
});
