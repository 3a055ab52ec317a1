import assert from "node:assert/strict";
import fc from "fast-check";
import {
  JinjaError,
  JinjaTemplate,
  OverBudget,
  parseJson,
} from "../../../../src/policy/templates/jinja/mod.ts";
import { SGLangError, TemplateLimitError, ValidationError } from "../../../../src/errors.ts";
import { renderChat } from "../../../../src/policy/templates/render.ts";

type Golden = readonly (readonly [template: string, printed: string])[];

/** What transformers 5.24.0 with jinja2 3.1.6 printed; one template and its text a line. */
const golden: Golden = (await Deno.readTextFile(new URL("jinja_golden.jsonl", import.meta.url)))
  .trimEnd().split("\n")
  .map((line) => JSON.parse(line));

/** What the reference was rendered with. */
const variables = {
  messages: [{ role: "user", content: "x" }, { role: "assistant", content: "y" }],
  add_generation_prompt: true,
  bos_token: "",
  tools: null,
};

function printed(source: string): string {
  try {
    return new JinjaTemplate(source).render({ variables }).text;
  } catch (error) {
    if (error instanceof JinjaError || error instanceof OverBudget) return "EXC";
    throw error;
  }
}

Deno.test("templates print what Python's jinja2 prints, and fail where it fails", () => {
  const wrong = golden.filter(([source, wanted]) =>
    printed(source) !== (wanted.startsWith("EXC ") ? "EXC" : wanted)
  );
  assert.deepEqual(
    wrong.slice(0, 5).map(([source, wanted]) => [source, printed(source), wanted]),
    [],
  );
  assert.ok(golden.length > 2000);
});

Deno.test("a template that has all that is written escaped is refused by name", () => {
  const chat = [{ role: "user", content: "x" }];
  const source = (on: string) => `{% autoescape ${on} %}{{ '<' }}{% endautoescape %}`;
  assert.equal(printed(source("false")), "<");
  for (const on of ["true", "x"]) {
    const rendered = () => renderChat(chat, { template: source(on), addGenerationPrompt: false });
    assert.throws(rendered, /autoescape/);
  }
});

Deno.test("numbers of parsed JSON print as Python's", () => {
  const value = parseJson('{"a": 1.0, "b": 1e-07, "c": 12345678901234567890, "d": 2, "e": 1e22}');
  const { text } = new JinjaTemplate("{{ v | tojson }} {{ v.a }}").render({
    variables: { v: value },
  });
  assert.equal(
    text,
    '{"a": 1.0, "b": 1e-07, "c": 12345678901234567890, "d": 2, "e": 1e+22} 1.0',
  );
});

Deno.test("strftime_now writes the given time as C does, in English", () => {
  const now = () => new Date(2026, 0, 5, 3, 4, 9);
  const format = "%a %A %b %B %d %e %-d %H %I %j %m %M %p %S %U %V %w %W %y %Y %F %T %%";
  const { text } = new JinjaTemplate(`{{ strftime_now("${format}") }}`).render({
    variables: {},
    now,
  });
  assert.equal(
    text,
    "Mon Monday Jan January 05  5 5 03 03 005 01 04 AM 09 01 02 1 01 26 2026 2026-01-05 03:04:09 %",
  );
});

const hungry = [
  "{{ 'a' * 10 ** 9 }}",
  "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
  "{% set ns = namespace(t='a') %}{% for i in range(100) %}{% set ns.t = ns.t + ns.t %}{% endfor %}",
  "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
  "{{ 'x' | center(10 ** 12) }}",
  "{{ '%1000000000d' % 1 }}",
  "{{ '{:1000000000}'.format(1) }}",
  "{{ 'x'.ljust(10 ** 10) }}{{ 'x'.zfill(10 ** 10) }}",
  "{{ [0] * 10 ** 9 }}",
  "{{ 9 ** (9 ** 9) }}",
  "{% set ns = namespace(n=3) %}{% for i in range(99) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
  "{{ 'x' | indent(10 ** 10, true) }}",
  "{{ {'a': 1} | tojson(indent=10 ** 10) }}",
  "{% for i in range(100000) %}{{ 'abcdefghij' * 1000 }}{% endfor %}",
  "{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
  "{% set ns = namespace(l=[1]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
  "{{ 'a' | replace('a', 'b' * 10000) | replace('b', 'c' * 100000) }}",
  "{{ range(100000) | batch(10 ** 9, 'x') | list }}",
  "(".repeat(10) + "{{ " + "(".repeat(100_000) + "1" + ")".repeat(100_000) + " }}",
  "{% if 1 %}".repeat(10_000),
  "{{ " + "1 + ".repeat(100_000) + "1 }}",
  "{{ " + "not ".repeat(100_000) + "1 }}",
];

for (const [index, template] of hungry.entries()) {
  Deno.test(`a template that would hang or fill memory is stopped: ${index} ${template.slice(0, 60)}`, () => {
    const limits = { maxSteps: 100_000, maxMs: 60_000, maxCharacters: 1_000_000 };
    const render = () =>
      renderChat([{ role: "user", content: "x" }], {
        template,
        addGenerationPrompt: false,
        limits,
      });
    assert.throws(render, (error) => error instanceof SGLangError);
  });
}

Deno.test("a limit that is reached is named", () => {
  const render = (template: string) => () =>
    renderChat([{ role: "user", content: "x" }], {
      template,
      addGenerationPrompt: false,
      limits: { maxSteps: 10_000 },
    });
  assert.throws(
    render("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"),
    (error) => error instanceof TemplateLimitError && error.limit === "maxSteps",
  );
  assert.throws(
    render("{{ 'a' * 10 ** 9 }}"),
    (error) => error instanceof TemplateLimitError && error.limit === "maxCharacters",
  );
  assert.throws(
    render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
    (error) => error instanceof TemplateLimitError && error.limit === "maxDepth",
  );
});

/** Pieces of which random templates are made. */
const piece = fc.constantFrom(
  ...["{% for x in ", " %}", "{% endfor %}", "{% if ", "{% endif %}", "{{ ", " }}", "{%- set y = "],
  ...["x", "y", "messages", "loop.index", "'a' * 999", "[1, 2]", "{'a': 1}", "range(999)", "none"],
  ...["x.content", " + ", " * ", " ~ ", " % ", "|upper", "|list", "|join(',')", "|map('string')"],
  ...[
    "|tojson",
    "|sort",
    ".split('a')",
    ".strip()",
    "[::-1]",
    "[0]",
    " is string",
    " in ",
    "(",
    ")",
  ],
  ...[
    "{% macro f(a) %}",
    "{% endmacro %}",
    "f(1)",
    "{# ",
    " #}",
    "-%}",
    "\n  ",
    "text",
    "**",
    ":",
    "\\",
  ],
);

Deno.test("no template gives another error than ours, and none takes more than its steps", () => {
  const limits = { maxSteps: 2000, maxMs: 60_000, maxCharacters: 20_000, maxDepth: 20 };
  const random = fc.array(piece, { maxLength: 20 }).map((parts) => parts.join(""));
  fc.assert(
    fc.property(fc.oneof(random, fc.string({ unit: "binary" })), (template) => {
      try {
        const text = renderChat([{ role: "user", content: "hällo 🫠" }], {
          template,
          addGenerationPrompt: true,
          limits,
        });
        assert.ok(text.length <= limits.maxCharacters);
      } catch (error) {
        assert.ok(
          error instanceof ValidationError || error instanceof TemplateLimitError,
          `${template}: ${error}`,
        );
      }
    }),
    { numRuns: 1000 },
  );
});

Deno.test("a template may use what its limits allow and no step more", () => {
  const template = "{% for i in range(50) %}{{ i }}{% endfor %}";
  const run = (maxSteps: number) =>
    new JinjaTemplate(template).render({ variables, limits: { maxSteps } });
  const { steps } = run(10_000);
  assert.equal(run(Math.ceil(steps)).steps, steps);
  assert.throws(() => run(Math.ceil(steps) - 1), OverBudget);
});

Deno.test("what a filter would make is counted before it is made", () => {
  for (const filter of ["center(10 ** 9)", "indent(10 ** 9)", "tojson(indent=10 ** 9)"]) {
    const render = () => new JinjaTemplate(`{{ 'a' | ${filter} }}`).render({ variables });
    assert.throws(render, OverBudget, filter);
  }
});

Deno.test("errors name what is missing as Python's do", () => {
  const told = (source: string) => {
    try {
      return new JinjaTemplate(source).render({ variables }).text;
    } catch (error) {
      return (error as Error).message;
    }
  };
  for (const filter of ["abs", "int", "float", "round", "dictsort", "indent"]) {
    assert.match(told(`{{ nobody | ${filter} }}`), /'nobody' is undefined/, filter);
  }
  assert.match(
    told("{% for i in [1] %}{{ loop.nothing.more }}{% endfor %}"),
    /'LoopContext' has no attribute 'nothing'|LoopContext.*nothing/,
  );
  for (const sign of ["", "-"]) {
    assert.equal(told(`{{ ${sign}(10 ** 4299) }}`).length, 4300 + sign.length);
    assert.match(told(`{{ ${sign}(10 ** 4300) }}`), /4300 digits/);
  }
});
