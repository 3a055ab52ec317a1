import assert from "node:assert/strict";
import { findPython } from "../../../src/process/mod.ts";

const variables = ["PYTHON_OF_THIS_TEST", "SECOND_PYTHON_OF_THIS_TEST"];

const reads = (env: Record<string, string>) => (name: string) => env[name];

Deno.test("the given Python comes before the variables, these before the active environment", () => {
  const env = reads({ VIRTUAL_ENV: "/venv", SECOND_PYTHON_OF_THIS_TEST: "/second" });
  assert.equal(findPython("/given", variables, env), "/given");
  assert.equal(findPython(undefined, variables, env), "/second");
  const both = reads({ SECOND_PYTHON_OF_THIS_TEST: "/second", PYTHON_OF_THIS_TEST: "/first" });
  assert.equal(findPython(undefined, variables, both), "/first");
  assert.equal(findPython(undefined, [], env), "/venv/bin/python");
});

Deno.test("without any of them it is python3", () => {
  const env = reads({ PYTHON_OF_THIS_TEST: "" });
  assert.equal(findPython(undefined, variables, env), "python3");
});

Deno.test({
  name: "variables that may not be read count as not set, and nothing is asked",
  permissions: { env: false },
  fn() {
    assert.equal(findPython(undefined, variables), "python3");
  },
});
