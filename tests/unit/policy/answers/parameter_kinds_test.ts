import assert from "node:assert/strict";
import fc from "fast-check";
import { readAnswer } from "../../../../src/policy/answers/read_answer.ts";

/** Families that write arguments between tags, without quotes. */
const families: Readonly<Record<string, (key: string, value: string) => string>> = {
  "Qwen3-Coder": (key, value) =>
    `<tool_call>\n<function=f>\n<parameter=${key}>\n${value}\n</parameter>\n</function>\n</tool_call>`,
  "GLM": (key, value) =>
    `<tool_call>f\n<arg_key>${key}</arg_key>\n<arg_value>${value}</arg_value>\n</tool_call>`,
  "MiniMax": (key, value) =>
    `<minimax:tool_call>\n<invoke name="f">\n<parameter name="${key}">${value}</parameter>\n` +
    "</invoke>\n</minimax:tool_call>",
};

const properties = {
  text: { type: "string" },
  maybe: { type: ["string", "null"] },
  optional: { anyOf: [{ type: "string" }, { type: "null" }] },
  either: { oneOf: [{ type: "integer" }, { type: "string" }] },
  named: { enum: ["1", "true"] },
  fixed: { const: "7" },
  city: { $ref: "#/$defs/City" },
  count: { type: ["integer", "null"] },
  level: { enum: [1, 2] },
  ratio: { allOf: [{ type: "number" }] },
  on: { type: "boolean" },
  list: { items: { type: "string" } },
  record: { properties: { a: { type: "string" } } },
  loop: { $ref: "#/properties/loop" },
  any: {},
};
const tool = {
  type: "function",
  function: {
    name: "f",
    parameters: { type: "object", properties, $defs: { City: { type: "string" } } },
  },
};

function read(family: string, key: string, value: string, tools: readonly unknown[] = [tool]) {
  const { calls, faults } = readAnswer(families[family]!(key, value), { tools });
  assert.deepEqual(faults, []);
  return (calls[0]!.arguments as Record<string, unknown>)[key];
}

for (const family of Object.keys(families)) {
  Deno.test(`arguments between tags are what their schemas say: ${family}`, () => {
    for (const key of ["text", "either", "named", "fixed", "city"]) {
      for (const value of ["True", "None", "5", "[1]", "null", "{'a': 1}", "2024"]) {
        assert.equal(read(family, key, value), value, key);
      }
    }
    for (const key of ["maybe", "optional"]) {
      assert.equal(read(family, key, "None"), null);
      assert.equal(read(family, key, "null"), null);
      assert.equal(read(family, key, "5"), "5");
    }
    assert.deepEqual(["True", "false", "None"].map((one) => read(family, "on", one)), [
      true,
      false,
      null,
    ]);
    assert.deepEqual(["5", "-3", "None", "x"].map((one) => read(family, "count", one)), [
      5,
      -3,
      null,
      "x",
    ]);
    assert.deepEqual(["1", "1_000"].map((one) => read(family, "level", one)), [1, 1000]);
    assert.deepEqual(["1.5", "1e3"].map((one) => read(family, "ratio", one)), [1.5, 1000]);
    assert.deepEqual(read(family, "list", "['a', \"b\"]"), ["a", "b"]);
    assert.deepEqual(read(family, "record", "{'k': [True, None]}"), { k: [true, null] });
    assert.deepEqual(read(family, "record", '{"k": 1}'), { k: 1 });
    // Nothing is known: what is no JSON and no value of Python's is a text.
    for (const key of ["any", "loop", "unknown"]) {
      assert.deepEqual(["True", "5", "word"].map((one) => read(family, key, one)), [
        true,
        5,
        "word",
      ]);
    }
    assert.equal(read(family, "on", "True", []), true);
  });

  Deno.test(`no schema and no value make an error: ${family}`, () => {
    const schema = fc.letrec((tie) => ({
      schema: fc.oneof(
        { maxDepth: 3 },
        fc.jsonValue(),
        fc.record({ type: fc.oneof(fc.string(), fc.array(fc.string())) }, { requiredKeys: [] }),
        fc.record({ anyOf: fc.array(tie("schema"), { maxLength: 3 }) }),
        fc.record({ enum: fc.array(fc.jsonValue(), { maxLength: 3 }) }),
        fc.record({ $ref: fc.constantFrom("#", "#/properties/a", "#/x", "http://x") }),
      ),
    })).schema;
    const value = fc.string({
      unit: fc.constantFrom(..."[]{}()'\",: 0123456789.eE+-_TrueFalsNnl\\".split("")),
    });
    fc.assert(fc.property(schema, value, (a, text) => {
      const described = { name: "f", parameters: { properties: { a } } };
      readAnswer(families[family]!("a", text), { tools: [described] });
    }));
  });
}
