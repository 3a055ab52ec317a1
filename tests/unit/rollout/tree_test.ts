import assert from "node:assert/strict";
import fc from "fast-check";
import { silentLogger } from "../../../src/internal/logger.ts";
import { TemplateChatModel } from "../../../src/policy/wrapper/chat_model.ts";
import type { Message } from "../../../src/policy/chat.ts";
import { joinTurns, type Sampler, TurnTree } from "../../../src/rollout/mod.ts";
import { mergingTokenizer, turnTemplates } from "../../_support/turn_templates.ts";
import { FakeEngine } from "../policy/support.ts";
import { messageKey } from "../../../src/rollout/message_key.ts";

const tokenizer = await mergingTokenizer();
const user = (content: string): Message => ({ role: "user", content });
const ids = (...list: number[]) => Int32Array.from(list);

function newTree(template: keyof typeof turnTemplates = "keeps it") {
  const engine = new FakeEngine({ sample: () => tokenizer.encode("yes<|im_end|>") });
  const sampler: Sampler = async (promptIds, { signal }) => {
    const [generation] = await engine.generate({ inputIds: [promptIds] }, {
      signal,
      returnLogProbs: true,
    });
    return generation!;
  };
  const chatTemplate = turnTemplates[template];
  const model = new TemplateChatModel({ tokenizer, chatTemplate, logger: silentLogger });
  return { tree: new TurnTree(model), sampler, engine };
}

Deno.test("a conversation that goes on extends the ids that it had", async () => {
  const { tree, sampler } = newTree();
  const first = await tree.sample([user("a")], sampler);
  const second = await tree.sample([user("a"), first.message, user("b")], sampler);
  assert.equal(second.prompt.parent, first);
  assert.equal(second.prompt.kind, "append");
  // An agent sends messages of its own making, equal and not the same.
  const copy = structuredClone([user("a"), first.message, user("b"), second.message, user("c")]);
  const third = await tree.sample(copy, sampler);
  assert.equal(third.prompt.parent, second);
  assert.deepEqual(tree.rows().map(({ turns }) => turns.length), [3]);
});

Deno.test("an edited conversation goes on from the last turn before the edit, or begins again", async () => {
  const { tree, sampler } = newTree();
  const first = await tree.sample([user("a")], sampler);
  const second = await tree.sample([user("a"), first.message, user("b")], sampler);
  const edited = await tree.sample([user("a"), first.message, user("B")], sampler);
  const compacted = await tree.sample([user("summary of a and b")], sampler);
  assert.equal(edited.prompt.parent, first);
  assert.equal(compacted.prompt.parent, null);
  assert.equal(compacted.prompt.kind, "start");
  const rows = tree.rows();
  assert.deepEqual(rows.map(({ turns }) => [...turns]), [[first, second], [edited], [compacted]]);
  assert.deepEqual(rows.map(({ parent }) => parent), [null, 0, null]);
});

Deno.test("a prompt that is asked again has the same ids and a second answer", async () => {
  const { tree, sampler } = newTree();
  const first = await tree.sample([user("a")], sampler);
  const messages = [user("a"), first.message, user("b")];
  const [one, other] = [await tree.sample(messages, sampler), await tree.sample(messages, sampler)];
  assert.deepEqual(one.prompt.ids, other.prompt.ids);
  assert.equal(other.prompt.parent, first);
  // The conversation goes on from the answer that was given last.
  const next = await tree.prepare([...messages, other.message, user("c")]);
  assert.equal(next.parent, other);
  assert.deepEqual(tree.rows().map(({ turns }) => turns.length), [2, 1]);
});

Deno.test("what a template rewrites is a branch of the tree", async () => {
  const { tree, sampler } = newTree("counts messages at the top");
  const first = await tree.sample([user("a")], sampler);
  const second = await tree.sample([user("a"), first.message, user("b")], sampler);
  assert.deepEqual(second.prompt.branch, { index: 1, within: "history" });
  assert.deepEqual(tree.rows().map(({ branch, parent }) => [branch, parent]), [[0, null], [1, 0]]);
});

Deno.test("every turn of any tree is in exactly one row, behind its own prompt", async () => {
  const moves = fc.array(fc.record({ from: fc.nat(), say: fc.constantFrom("a", "b") }), {
    maxLength: 12,
  });
  await fc.assert(fc.asyncProperty(moves, async (moves) => {
    const { tree, sampler } = newTree();
    for (const { from, say } of moves) {
      const at = tree.turns[from % (tree.turns.length + 1)];
      const before = at === undefined ? [] : [...at.prompt.messages, at.message];
      await tree.sample([...before, user(say)], sampler);
    }
    const rows = tree.rows();
    assert.deepEqual(new Set(rows.flatMap(({ turns }) => turns)), new Set(tree.turns));
    assert.equal(rows.flatMap(({ turns }) => turns).length, tree.turns.length);
    for (const { turns } of rows) {
      const joined = joinTurns(turns.map(({ sample }) => ({ ...sample, responseIds: sample.ids })));
      assert.equal(joined.length, 1);
    }
  }));
});

Deno.test("turns whose prompt is not known begin a row, and a turn without scores has none", () => {
  const rows = joinTurns([
    { promptIds: null, responseIds: ids(1), logProbs: null },
    { promptIds: ids(1, 2), responseIds: ids(3), logProbs: Float32Array.of(-1) },
    {
      promptIds: ids(1, 2, 3),
      responseIds: ids(),
      logProbs: new Float32Array(),
      tokenVersions: ids(),
    },
    { promptIds: ids(1, 2, 4), responseIds: ids(5), logProbs: null, tokenVersions: ids(7) },
  ]);
  assert.deepEqual(rows.map((row) => [...row.ids]), [[1], [1, 2, 3], [1, 2, 4, 5]]);
  assert.deepEqual(rows.map((row) => [...row.mask]), [[1], [0, 0, 1], [0, 0, 0, 1]]);
  assert.deepEqual(rows.map((row) => row.logProbs && [...row.logProbs]), [null, [0, 0, -1], null]);
  assert.deepEqual(rows.map((row) => row.tokenVersions && [...row.tokenVersions]), [
    null,
    null,
    [-1, -1, -1, 7],
  ]);
  assert.deepEqual(rows.map(({ branch, parent }) => [branch, parent]), [[0, null], [1, 0], [2, 1]]);
});

Deno.test("a message without calls is the same however a client writes that", () => {
  const said = { role: "assistant", content: "a" };
  for (const name of ["tool_calls", "toolCalls", "toolCallFaults", "toolResponses"]) {
    for (const nothing of [[], null, undefined]) {
      assert.equal(messageKey({ ...said, [name]: nothing }), messageKey(said));
    }
    assert.notEqual(messageKey({ ...said, [name]: ["x"] }), messageKey(said));
  }
  assert.notEqual(messageKey({ ...said, content: [] }), messageKey(said));
});
