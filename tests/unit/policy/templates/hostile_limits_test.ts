import assert from "node:assert/strict";
import { TemplateLimitError, ValidationError } from "../../../../src/errors.ts";
import {
  Budget,
  budgetAtHand,
  checkTemplateLimits,
  OverBudget,
  withBudget,
} from "../../../../src/policy/templates/jinja/budget.ts";
import { filters } from "../../../../src/policy/templates/jinja/filters.ts";
import { methodNames } from "../../../../src/policy/templates/jinja/methods.ts";
import { JinjaTemplate } from "../../../../src/policy/templates/jinja/mod.ts";
import { tests } from "../../../../src/policy/templates/jinja/tests.ts";
import { equals } from "../../../../src/policy/templates/jinja/values.ts";
import { repr } from "../../../../src/policy/templates/jinja/text.ts";
import { renderChat } from "../../../../src/policy/templates/render.ts";

const doubled = "{% set ns=namespace(s=[1],t=[1],d={}) %}{% for i in range(99) %}" +
  "{% set ns.s=[ns.s,ns.s] %}{% set ns.t=[ns.t,ns.t] %}{% set ns.d={'a':ns.d,'b':ns.d} %}" +
  "{% endfor %}";
const limits = { maxSteps: 30_000, maxMs: 60_000, maxCharacters: 1_000_000, maxDepth: 100 };

function render(template: string): string {
  return renderChat([{ role: "user", content: "hi" }], {
    template,
    addGenerationPrompt: true,
    limits,
  });
}

const isLimit = (error: unknown) => error instanceof TemplateLimitError;

/** Values that are small to write and large to walk. */
const large = ["ns.s", "ns.d", "(ns.s, 1)", "[ns.d]", "{'a': ns.s}"];

Deno.test("what prints, compares, sorts or dumps a shared structure counts each entry that it visits", () => {
  for (const value of large) {
    for (
      const use of [
        `{{ ${value} }}`,
        `{% set x = ${value} ~ '' %}`,
        `{% set x = ${value}|string %}`,
        `{% set x = ${value}|pprint %}`,
        `{% set x = ${value}|tojson %}`,
        `{% set x = ${value}|tojson(indent=2, sort_keys=true) %}`,
        `{% set x = '%s' % [${value}] %}`,
        `{% set x = '%r' % ([${value}],) %}`,
        `{% set x = '{}'.format([${value}]) %}`,
        `{% set x = '{!r}'.format([${value}]) %}`,
        `{% set x = [${value}]|join %}`,
        `{% set x = ${value}|upper %}`,
        `{% set x = ${value}|urlencode %}`,
        `{{ raise_exception(${value}) }}`,
      ]
    ) assert.throws(() => render(doubled + use), isLimit, use);
  }
  for (
    const use of [
      "ns.s == ns.t",
      "ns.s != ns.t",
      "ns.s < ns.t",
      "ns.s in [ns.t]",
      "[ns.t].count(ns.s)",
      "[ns.t].index(ns.s)",
      "[ns.s, ns.t]|sort",
      "[ns.s, ns.t]|max",
      "[{'a': ns.s}, {'a': ns.t}]|groupby('a')",
      "[(ns.s, 1)]|unique|list",
      "ns.s is eq(ns.t)",
      "ns.s is in([ns.t])",
    ]
  ) assert.throws(() => render(`${doubled}{% set x = ${use} %}`), isLimit, use);
});

/** Texts that make a search or a pattern do its worst. */
const texts = [
  "'<' * N",
  "'<!--' * N",
  "'a ' * N",
  "'1' * N ~ 'x'",
  "'1_' * N",
  "' ' * N ~ 'x' ~ ' ' * N",
  "'%(' * N",
  "'{' * N",
  "'\\n' * N",
  "'\\t' * N",
  "'\"' * N",
  "'🫠' * N",
  "'&' * N",
  "'\\x00' * N",
];
const given: Readonly<Record<string, string>> = {
  attr: "('x')",
  batch: "(3)",
  slice: "(3)",
  groupby: "('x')",
  map: "('upper')",
  replace: "('a', 'bb')",
  center: "(100)",
  ljust: "(100)",
  rjust: "(100)",
  zfill: "(100)",
  startswith: "('a')",
  endswith: "('a')",
  removeprefix: "('a')",
  removesuffix: "('a')",
  find: "('a' * 500 ~ 'b' ~ 'a' * 500)",
  rfind: "('b' ~ 'a' * 500)",
  index: "('a')",
  rindex: "('a')",
  count: "('a')",
  join: "(['a', 'b'])",
  partition: "('a')",
  rpartition: "('a')",
};

Deno.test("every filter, method and test of a long text is counted before it runs", () => {
  const uses = [
    ...Object.keys(filters).map((name) => `s|${name}${name === "count" ? "" : given[name] ?? ""}`),
    ...methodNames("str").map((name) => `s.${name}${given[name] ?? "()"}`),
    ...Object.keys(tests).filter((name) => /^\w+$/.test(name)).map((name) => `s is ${name}`),
    "s % 1",
    "s in s",
    "s == s ~ ''",
    "strftime_now(s)",
    "s[0]",
    "s[::-1]",
  ];
  const size = 2000;
  for (const text of texts) {
    for (const use of uses) {
      // A thousand times: what counts nothing for the length of its text would end well.
      const template = new JinjaTemplate(
        `{% set s = ${text.replaceAll("N", String(size))} %}` +
          `{% for i in range(1000) %}{% set x = ${use} %}{% endfor %}`,
      );
      let steps = Infinity;
      try {
        steps = template.render({ variables: {}, limits }).steps;
      } catch (error) {
        // An error of Python's ends it in the first round.
        assert.ok(error instanceof Error, use);
        if (!(error instanceof OverBudget)) assert.doesNotMatch(error.message, /string length/);
        continue;
      }
      assert.ok(steps <= limits.maxSteps, use);
      assert.match(use, /^s is |^s\|(d|default|items)$/, `${use} of ${text} counts too little`);
    }
  }
});

Deno.test("what a function makes counts against the characters before it is made", () => {
  for (
    const use of [
      "strftime_now('%c' * 100000)",
      "('<' * 400000)|escape",
      "('\\x00' * 400000)|pprint",
      "('\\x00' * 400000)|tojson",
      "('🫠' * 100000)|tojson(ensure_ascii=true)",
      "('é' * 300000)|urlencode",
      "'%s%s' % ('x' * 600000, 'x' * 600000)",
      "'{0}{0}'.format('x' * 600000)",
      "[ 'x' * 600000, 'x' * 600000 ]|string",
    ]
  ) assert.throws(() => render(`{% set x = ${use} %}`), isLimit, use);
  assert.throws(() => render("{{ 'x'.center(10, 'ab' * 1000) }}"), ValidationError);
});

Deno.test("tags are left out as before, also those without an end", () => {
  for (
    const [html, text] of [
      ["a<b>c</b> d", "ac d"],
      ["a <!-- <b> --> c", "a c"],
      ["a < b", "a < b"],
      ["<!-- x > y", "y"],
      ["<<a>b<", "b<"],
      ["<!--> --> x", "x"],
      ["a<!-- b --> <!-- c", "a <!-- c"],
    ]
  ) assert.equal(render(`{{ ${JSON.stringify(html)}|striptags }}`), text, html);
});

Deno.test("a budget is at hand only while its rendering runs", () => {
  const budget = new Budget({ ...limits, maxSteps: 10 });
  withBudget(budget, () => assert.equal(budgetAtHand(), budget));
  assert.throws(() => withBudget(budget, () => repr(Array(99).fill(1))), OverBudget);
  assert.equal(budgetAtHand(), null);
  assert.ok(equals(Array(99).fill(1), Array(99).fill(1)));
});

Deno.test("what no limit is named for ends after the same steps on any machine", () => {
  const message = { role: "user" as const, content: "hi" };
  const loops = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}";
  // The clock is out of the way, so that a busy machine tells nothing else.
  const render = (limits: object) =>
    renderChat([message], { template: loops, addGenerationPrompt: true, limits });
  assert.throws(
    () => render({ maxMs: 2 ** 30 }),
    (error) => error instanceof TemplateLimitError && error.limit === "maxSteps",
  );
  assert.deepEqual(checkTemplateLimits({}, 1000, 10), {
    maxSteps: 2_004_400,
    maxMs: 5020,
    maxCharacters: 16 * 1024 * 1024 + 4000,
    maxDepth: 100,
  });
  assert.equal(checkTemplateLimits({}, 0, 10 ** 5).maxSteps, 10_000_000);
});

Deno.test("a loop of hours ends by its time, whatever steps it may take", () => {
  const message = { role: "user" as const, content: "hi" };
  const template = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}";
  const bounds = { maxSteps: 10 ** 12, maxMs: 20 };
  assert.throws(
    () => renderChat([message], { template, addGenerationPrompt: true, limits: bounds }),
    (error) => error instanceof TemplateLimitError && error.limit === "maxMs",
  );
});

Deno.test("an operation that no step was counted for is stopped by the clock", () => {
  const budget = new Budget({ ...limits, maxMs: 5 });
  const forever = () => /^(a|a)+$/.test("a".repeat(60) + "b");
  assert.throws(() => withBudget(budget, forever), (error) => {
    assert.ok(error instanceof OverBudget && error.limit === "maxMs");
    return true;
  });
  assert.equal(budgetAtHand(), null);
});

Deno.test("a long conversation may take more characters than a short one", () => {
  const template = new JinjaTemplate(
    "{% for m in messages %}{{ m.content }}{{ m.content }}{{ m.content }}{% endfor %}",
  );
  const variables = { messages: [{ content: '"'.repeat(6_000_000) }] };
  assert.equal(template.render({ variables, limits: { maxMs: 60_000 } }).text.length, 18_000_000);
  const limits = { maxMs: 60_000, maxCharacters: 17_000_000 };
  assert.throws(() => template.render({ variables, limits }), OverBudget);
});
