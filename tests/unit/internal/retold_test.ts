import assert from "node:assert/strict";
import { HttpError, isSGLangError } from "../../../src/errors.ts";
import { retold } from "../../../src/internal/retold.ts";

Deno.test("an error in other words keeps its class, its code and its fields", () => {
  const first = new HttpError("503", {
    status: 503,
    endpoint: "/pause_generation",
    serverMessage: "busy",
  });
  const error = retold(first, "pause failed on 2 of 3 servers");
  assert.ok(error instanceof HttpError && isSGLangError(error));
  assert.equal(error.message, "pause failed on 2 of 3 servers");
  assert.deepEqual([error.code, error.status, error.endpoint, error.serverMessage, error.name], [
    "http",
    503,
    "/pause_generation",
    "busy",
    "HttpError",
  ]);
  assert.equal(error.cause, first);
  assert.match(Deno.inspect(error), /pause failed on 2 of 3 servers/);
});
