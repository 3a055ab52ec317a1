import assert from "node:assert/strict";
import fc from "fast-check";
import {
  ContextOverflowError,
  HttpError,
  PartialResultError,
  TemplateLimitError,
  ValidationError,
} from "../../../src/errors.ts";
import type { Message } from "../../../src/policy/chat.ts";
import type { PolicyOutput } from "../../../src/policy/mod.ts";
import { lists, named, wrap } from "./support.ts";

/** A server whose context holds 20 tokens, which says so as SGLang does. */
function refusing(ids: Int32Array, maxNewTokens: number): void {
  const say = (serverMessage: string) => {
    throw new HttpError(`POST /generate: ${serverMessage}`, {
      status: 400,
      endpoint: "POST /generate",
      serverMessage,
    });
  };
  if (ids.length >= 20) {
    say(
      `The input (${ids.length} tokens) is longer than the model's context length (20 tokens).`,
    );
  }
  const total = ids.length + maxNewTokens;
  if (total <= 20) return;
  say(
    "Requested token count exceeds the model's maximum context length of 20 tokens. You " +
      `requested a total of ${total} tokens: ${ids.length} tokens from the input messages and ` +
      `${maxNewTokens} tokens for the completion.`,
  );
}

function small(inputMode: "tokens" | "text" = "tokens") {
  return wrap({ inputMode, inplace: false, generateKwargs: { max_tokens: 8, minNewTokens: 6 } }, {
    check: (ids, options) =>
      refusing(ids, options.maxNewTokens as number ?? options.samplingParams!.max_tokens),
  });
}

const row = (length: number) => Array.from({ length }, (_, index) => index + 1);

Deno.test("one prompt of 64 that is too long is named, and the other 63 are kept", async () => {
  const { wrapper } = small();
  const rows = Array.from({ length: 64 }, (_, index) => row(index === 40 ? 99 : 3));
  await assert.rejects(wrapper.call({ tokens: rows }), (error) => {
    assert.ok(error instanceof PartialResultError);
    assert.equal(error.code, "partial");
    assert.match(error.message, /1 of 64 rows failed \(row 40: The prompt of 99 tokens/);
    assert.deepEqual(error.failures.map((failure) => failure.row), [40]);
    assert.ok(error.failures[0]!.error instanceof ContextOverflowError);
    assert.deepEqual(error.rows, rows.keys().toArray().filter((index) => index !== 40));
    const partial = error.partial as PolicyOutput;
    assert.deepEqual(partial.batchShape, [63]);
    assert.equal(partial.tokens.get("response").length, 63);
    return true;
  });
});

Deno.test("where the context has less room than is wanted, as many tokens are asked for as fit", async () => {
  for (const inputMode of ["tokens", "text"] as const) {
    const { wrapper, engine } = small(inputMode);
    const text = "x".repeat(17);
    await wrapper.call(inputMode === "text" ? { text: [text] } : { tokens: [row(17)] });
    const { maxNewTokens, minNewTokens } = engine.calls.at(-1)!.options;
    assert.deepEqual([maxNewTokens, minNewTokens], [3, 3]);
    // Known by now, so that no second refusal is needed.
    const before = engine.calls.length;
    await wrapper.call(inputMode === "text" ? { text: ["x"] } : { tokens: [row(18)] });
    assert.equal(engine.calls.length, before + 1);
  }
});

Deno.test("a single prompt that is too long is an error with its length and the limit", async () => {
  const { wrapper, engine } = small();
  const isOverflow = (error: unknown) => {
    assert.ok(error instanceof ContextOverflowError);
    assert.deepEqual([error.promptTokens, error.limit], [30, 19]);
    return true;
  };
  await assert.rejects(wrapper.call({ tokens: [row(30)] }), isOverflow);
  const before = engine.calls.length;
  await assert.rejects(wrapper.call({ tokens: [row(30)] }), isOverflow);
  assert.equal(engine.calls.length, before, "a prompt that is known to be too long is not sent");
});

Deno.test("an error of every row is thrown as it is", async () => {
  const broken = wrap({ inputMode: "tokens" }, {
    before: () => {
      throw new Error("gone");
    },
  });
  await assert.rejects(broken.wrapper.call({ tokens: [row(1), row(2)] }), /^Error: gone$/);
});

Deno.test("samples of the rows that are done stay with their prompts", async () => {
  const { wrapper } = wrap({ inputMode: "tokens", numSamples: 2 }, {
    check: (ids) => refusing(ids, 1),
  });
  await assert.rejects(wrapper.call({ tokens: [row(99), row(2), row(3)] }), (error) => {
    const { partial } = error as PartialResultError<PolicyOutput>;
    assert.deepEqual(partial.batchShape, [2, 2]);
    assert.deepEqual(lists(partial.tokens.prompt), [row(2), row(2), row(3), row(3)]);
    return true;
  });
});

Deno.test("a server that refuses a prompt of just the length that it allows is believed", async () => {
  const { wrapper } = wrap({ inputMode: "tokens", inplace: false }, {
    check: ({ length }) => {
      if (length < 10) return;
      const serverMessage = `Input length (${length} tokens) exceeds the maximum allowed length ` +
        "(10 tokens). Use a shorter input or enable --allow-auto-truncate.";
      throw new HttpError(serverMessage, {
        status: 400,
        endpoint: "POST /generate",
        serverMessage,
      });
    },
  });
  await assert.rejects(wrapper.call({ tokens: [row(10)] }), (error) => {
    assert.ok(error instanceof ContextOverflowError);
    assert.equal(error.limit, 9);
    return true;
  });
});

const chatTemplate = "{% for m in messages %}{% if m.content == 'bad' %}" +
  "{{ raise_exception('no bad words') }}{% elif m.content == 'loop' %}{{ 'x' * 10 ** 9 }}" +
  "{% endif %}{{ m.content }}{% endfor %}";
const ask = (content: unknown) => [{ role: "user", content }] as Message[];

Deno.test("a conversation that cannot be prepared is its row's error, and the others are kept", async () => {
  const tokenizer = named("refusing", { chatTemplate });
  for (const generate of [true, false]) {
    for (const batching of [false, true]) {
      const { wrapper, engine } = wrap({ tokenizer, generate, batching, inplace: false });
      const image = ask([{ type: "image_url", image_url: { url: "data:" } }]);
      const history = [ask("a"), ask("bad"), ask("b"), image, ask("loop"), ask([null]), ask("c")];
      await assert.rejects(wrapper.call({ history }), (error) => {
        assert.ok(error instanceof PartialResultError);
        assert.match(error.message, /4 of 7 rows failed \(row 1: .*no bad words; row 3: /);
        assert.deepEqual(error.failures.map(({ row }) => row), [1, 3, 4, 5]);
        assert.ok(error.failures[0]!.error instanceof ValidationError);
        assert.ok(error.failures[2]!.error instanceof TemplateLimitError);
        assert.deepEqual(error.rows, [0, 2, 6]);
        const { text, batchShape } = error.partial as PolicyOutput;
        assert.deepEqual(batchShape, [3]);
        const said = (generate ? text!.prompt : text!.full) as readonly string[];
        assert.deepEqual(said, ["a", "b", "c"]);
        return true;
      });
      assert.equal(engine.calls.flatMap(({ prompts }) => prompts.inputIds ?? []).length, 3);
    }
  }
});

Deno.test("where no row can be prepared nothing is sent, and the first error is thrown", async () => {
  const { wrapper, engine } = wrap({ tokenizer: named("refusing", { chatTemplate }) });
  for (const history of [[ask("bad")], [ask("bad"), ask("loop")]]) {
    await assert.rejects(
      wrapper.call({ history }),
      (error) => error instanceof ValidationError && /no bad words/.test(error.message),
    );
  }
  assert.equal(engine.calls.length, 0);
});

Deno.test("a row without ids is its row's error", async () => {
  const { wrapper } = wrap({ inputMode: "tokens" });
  const rows = [2, 0, 3].map((length) => Int32Array.from(row(length)));
  await assert.rejects(wrapper.call({ tokens: rows }), (error) => {
    assert.ok(error instanceof PartialResultError);
    assert.deepEqual([error.failures.map((failure) => failure.row), error.rows], [[1], [0, 2]]);
    return true;
  });
});

Deno.test("whatever one conversation holds, the others are answered and it is named", async () => {
  const odd = fc.oneof(
    fc.constantFrom<unknown>(5, {}, true, [5], [null], [{ type: "image_url" }], [{ text: "a" }]),
    // Some templates write a message without content, this one does not.
    fc.anything().filter((content) => content !== null && content !== undefined),
  );
  await fc.assert(
    fc.asyncProperty(odd, fc.nat(3), fc.boolean(), async (content, at, isSecond) => {
      const { wrapper } = wrap({ inplace: false, generateKwargs: { max_tokens: 2 } });
      const good = [{ role: "user", content: "a" }];
      const bad = [...isSecond ? good : [], { role: "user", content }];
      const chats: unknown[] = [good, good, good];
      chats.splice(at, 0, bad);
      const output = wrapper.call({ history: chats as Message[][] });
      const isText = (part: unknown) =>
        typeof part === "object" && part !== null &&
        (part as { type?: unknown }).type === "text" &&
        typeof (part as { text?: unknown }).text === "string";
      const isFine = typeof content === "string" ||
        Array.isArray(content) && Array.from(content).every(isText);
      if (isFine) assert.deepEqual((await output).batchShape, [4]);
      else {
        await assert.rejects(output, (error) => {
          assert.ok(error instanceof PartialResultError, String(error));
          assert.deepEqual(error.failures.map(({ row }) => row), [at]);
          assert.match(error.failures[0]!.error.message, /message|Message/);
          return true;
        });
      }
    }),
    { numRuns: 60 },
  );
});

Deno.test("a copy of an output after JSON is scored and gone on with as the output is", async () => {
  for (const numSamples of [undefined, 2]) {
    const { wrapper } = wrap({ inplace: false, generateKwargs: { max_tokens: 3 }, numSamples });
    const output = await wrapper.call({
      history: [[{ role: "user", content: "a" }], [{ role: "user", content: "b c" }]],
    });
    const copy = JSON.parse(JSON.stringify({ tokens: output.tokens, history: output.history }));
    assert.deepEqual(copy.tokens.batchShape, output.batchShape);
    assert.deepEqual(
      copy.tokens.full.flat(numSamples === undefined ? 0 : 1),
      lists(output.tokens.get("full")),
    );
    const scored = await wrapper.logProb(copy);
    assert.deepEqual(scored.tokens.get("full"), output.tokens.get("full"));
    assert.equal(JSON.stringify(output.logProbs).includes("response"), true);
  }
});
