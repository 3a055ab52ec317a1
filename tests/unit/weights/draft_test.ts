/** Draft models of servers are listed, brought along, left alone, or refused by name. */
import assert from "node:assert/strict";
import {
  type DraftChoice,
  type DraftModel,
  draftOf,
  requireDraftFit,
} from "../../../src/weights/fleet/draft.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";
import { weightsStandIn } from "../../_support/weights_stand_in.ts";
import { metadata, schemeFor, state } from "./_small_model.ts";

const own = { speculative_algorithm: "EAGLE3", speculative_draft_model_path: "/models/draft" };
const layers = { speculative_algorithm: "NEXTN" };

async function synced(info: object, draft?: DraftChoice) {
  await using server = weightsStandIn({}, info as Record<string, unknown>);
  await using sender = schemeFor(server.url, { transport: "gloo", draft }).createSender();
  await sender.initAllWorkersGroup(metadata);
  const { servers } = await sender.updateWeights(state);
  const selectors = server.requests
    .filter(({ path }) => /begin_weight_update|update_weights_from/.test(path))
    .map(({ body }) => (body as Record<string, unknown> | undefined)?.selector);
  return { draft: servers[0]!.draft, selectors };
}

Deno.test("a server's draft model is in its state: of a checkpoint of its own, or layers of the served one", () => {
  const cases: [Record<string, unknown>, DraftModel | undefined][] = [
    [{}, undefined],
    [{ speculative_algorithm: null }, undefined],
    [{ speculative_algorithm: "NGRAM" }, undefined],
    [layers, { algorithm: "NEXTN", model: null }],
    [{ ...layers, speculative_draft_model_path: null }, { algorithm: "NEXTN", model: null }],
    [
      { ...layers, speculative_draft_model_path: "/m", model_path: "/m" },
      { algorithm: "NEXTN", model: null },
    ],
    [own, { algorithm: "EAGLE3", model: "/models/draft" }],
  ];
  for (const [args, draft] of cases) assert.deepEqual(draftOf(args), draft);
});

Deno.test("layers of the served checkpoint are brought along where the server can, else refused", async () => {
  const { draft, selectors } = await synced({ version: "0.5.23", ...layers });
  assert.deepEqual(draft, { algorithm: "NEXTN", model: null });
  assert.ok(selectors.length > 1 && selectors.every((selector) => selector === "all"));
  await assert.rejects(synced({ version: "0.5.16", ...layers }), {
    code: "unsupported",
    message: /draft model \(NEXTN, layers of the served checkpoint\).*Set draft: "keep"/,
  });
  const kept = await synced({ version: "0.5.16", ...layers }, "keep");
  // It knows no selectors: its group is the target's.
  assert.ok(kept.selectors.every((selector) => selector === undefined));
});

Deno.test("a draft model of its own never gets another model's weights", async () => {
  for (const version of ["0.5.16", "0.5.23"]) {
    await assert.rejects(synced({ version, ...own }), {
      code: "unsupported",
      message: /EAGLE3, \/models\/draft.*the weights are not its.*Set draft: "keep"/,
    });
  }
  const { draft, selectors } = await synced({ version: "0.5.23", ...own }, "keep");
  assert.deepEqual(draft, { algorithm: "EAGLE3", model: "/models/draft" });
  assert.ok(selectors.length > 1 && selectors.every((selector) => selector === "target"));
});

Deno.test("servers without a draft model are told of no selector beyond the default", async () => {
  const { draft, selectors } = await synced({ version: "0.5.23" });
  assert.equal(draft, undefined);
  assert.ok(selectors.every((selector) => selector === "all" || selector === undefined));
});

Deno.test("of all servers, ways and choices none brings a draft model weights that nobody asked for", () => {
  for (const hasWeightSession of [false, true]) {
    for (const transport of ["gloo", "nccl", "cuda-ipc", "disk", "trainer"]) {
      for (const choice of ["update", "keep"] as const) {
        for (const model of [null, "/models/draft"]) {
          const draft = { algorithm: "EAGLE", model };
          const question = {
            url: "http://a",
            version: hasWeightSession ? "0.5.23" : "0.5.16",
            draft,
            hasWeightSession,
            transport,
            choice,
          };
          // What SGLang does: these reach the draft model, unless a selector can keep it out.
          const reaches = transport === "disk" ||
            (hasWeightSession ? choice === "update" : transport === "cuda-ipc");
          const isWanted = choice === "update" && model === null;
          // One of its own is left alone only when that is said.
          const isRight = reaches === isWanted && (choice === "keep" || isWanted);
          if (isRight) requireDraftFit(question);
          else {
            assert.throws(() => requireDraftFit(question), {
              code: "unsupported",
              message: /http:\/\/a has a draft model \(EAGLE/,
            }, JSON.stringify(question));
          }
        }
      }
    }
  }
});

Deno.test("files would be loaded into a draft model too, so that way is refused", async () => {
  await using folder = await temporaryFolder();
  await using server = weightsStandIn({}, own);
  await using sender = schemeFor(server.url, {
    transport: "disk",
    disk: { folder: folder.path },
    openGroup: undefined,
    draft: "keep",
  }).createSender();
  await assert.rejects(sender.initAllWorkersGroup(metadata), {
    code: "unsupported",
    message: /transport "disk".*cannot leave as it is/,
  });
});
