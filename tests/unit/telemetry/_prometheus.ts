import assert from "node:assert/strict";

const sample = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})? (\S+)$/s;
const label = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|\})/gy;

/** Samples of a text by name and labels as written; a line that is none fails. */
export function parsePrometheus(
  text: string,
): Map<string, number> & { labels: Map<string, Record<string, string>> } {
  assert.ok(text === "" || text.endsWith("\n"));
  const samples = new Map<string, number>();
  const labels = new Map<string, Record<string, string>>();
  const types = new Map<string, string>();
  for (const line of text.split("\n").slice(0, -1)) {
    const type = /^# TYPE (\S+) (gauge|counter|histogram|summary)$/.exec(line);
    if (type !== null) {
      assert.ok(!types.has(type[1]!), `${type[1]} has two types`);
      types.set(type[1]!, type[2]!);
    }
    if (line.startsWith("#")) {
      assert.match(line, /^# (HELP|TYPE) /);
      continue;
    }
    const match = sample.exec(line);
    assert.ok(match !== null, `no sample: ${line}`);
    const [, name, braces = "", value] = match;
    const family = types.get(name!) ?? types.get(name!.replace(/_(bucket|sum|count)$/, ""));
    assert.ok(family !== undefined, `${name} has no type`);
    assert.ok(
      family !== "counter" || name!.endsWith("_total"),
      `${name} is a counter without _total`,
    );
    const key = name! + braces;
    assert.ok(!samples.has(key), `${key} is there twice`);
    samples.set(key, value === "+Inf" ? Infinity : value === "-Inf" ? -Infinity : Number(value));
    labels.set(key, readLabels(braces));
  }
  return Object.assign(samples, { labels });
}

function readLabels(braces: string): Record<string, string> {
  const found: Record<string, string> = {};
  label.lastIndex = 1;
  while (label.lastIndex > 0 && label.lastIndex < braces.length) {
    const match = label.exec(braces);
    assert.ok(match !== null, `no labels: ${braces}`);
    found[match[1]!] = match[2]!.replace(/\\(.)/g, (_all, c) => c === "n" ? "\n" : c);
  }
  return found;
}
