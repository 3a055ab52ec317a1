import assert from "node:assert/strict";
import { findPython } from "../../../src/process/mod.ts";

const variables = ["PYTHON_OF_THIS_TEST", "SECOND_PYTHON_OF_THIS_TEST"];

function withEnv(env: Record<string, string>, work: () => void): void {
  const names = [...variables, "VIRTUAL_ENV"];
  const before = names.map((name) => [name, Deno.env.get(name)] as const);
  for (const name of names) Deno.env.delete(name);
  for (const [name, value] of Object.entries(env)) Deno.env.set(name, value);
  try {
    work();
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) Deno.env.delete(name);
      else Deno.env.set(name, value);
    }
  }
}

Deno.test("the given Python comes before the variables, these before the active environment", () =>
  withEnv({ VIRTUAL_ENV: "/venv", SECOND_PYTHON_OF_THIS_TEST: "/second" }, () => {
    assert.equal(findPython("/given", variables), "/given");
    assert.equal(findPython(undefined, variables), "/second");
    Deno.env.set("PYTHON_OF_THIS_TEST", "/first");
    assert.equal(findPython(undefined, variables), "/first");
    assert.equal(findPython(undefined, []), "/venv/bin/python");
  }));

Deno.test("without any of them it is python3", () =>
  withEnv({ PYTHON_OF_THIS_TEST: "" }, () => {
    assert.equal(findPython(undefined, variables), "python3");
  }));

Deno.test({
  name: "variables that may not be read count as not set, and nothing is asked",
  permissions: { env: false },
  fn() {
    assert.equal(findPython(undefined, variables), "python3");
  },
});
