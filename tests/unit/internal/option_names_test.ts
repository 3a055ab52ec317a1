/** A name that is no option is refused wherever options are taken, with the nearest that is one. */
import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import fc from "fast-check";
import { SGLangClient } from "../../../src/client/mod.ts";
import { CLIENT_OPTION_NAMES } from "../../../src/client/options.ts";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { ValidationError } from "../../../src/errors.ts";
import { checkOptionNames, onlyNamed } from "../../../src/internal/option_names.ts";
import { ProcessTree } from "../../../src/process/mod.ts";
import { TCPStoreServer } from "../../../src/rendezvous/mod.ts";
import { SGLangRouter } from "../../../src/router/mod.ts";
import { makeSGLangServer } from "../../../src/server/mod.ts";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";

/** Everything that takes options, given one with a letter too many. */
const doors: Readonly<Record<string, () => unknown>> = {
  SGLangClient: () => new SGLangClient({ url: "http://a", timeoutMss: 1 } as never),
  retry: () => new SGLangClient({ url: "http://a", retry: { retriess: 1 } } as never),
  connect: () => AsyncSGLang.connect("http://a", { maxConcurency: 1 } as never),
  fromPretrained: () => AsyncSGLang.fromPretrained("m", { numReplica: 1 } as never),
  server: () => makeSGLangServer({ model: "m", tpsize: 1 } as never),
  router: () => SGLangRouter.launch({ workers: [], policyy: 1 } as never),
  weights: () => new SGLangWeightSyncScheme({ serverUrl: "http://a", pauseMod: "abort" } as never),
  deadlines: () =>
    new SGLangWeightSyncScheme({ serverUrl: "http://a", deadlines: { initSecs: 1 } } as never),
  disk: () => new SGLangWeightSyncScheme({ serverUrl: "http://a", disk: { foldr: "x" } } as never),
  nccl: () =>
    new SGLangWeightSyncScheme({ serverUrl: "http://a", nccl: { cudarts: "x" } } as never),
  process: () => ProcessTree.launch({ command: ["true"], stopGraceMS: 1 } as never),
  embedded: () => EmbeddedServer.start({ model: "m", sed: 1 } as never),
  store: () => TCPStoreServer.listen({ hostnam: "127.0.0.1" } as never),
};

for (const [name, open] of Object.entries(doors)) {
  Deno.test(`an unknown option is refused with the nearest known one: ${name}`, async () => {
    const failure = await Promise.resolve().then(open).then(() => undefined, (error) => error);
    ok(failure instanceof ValidationError, String(failure));
    match(failure.message, /^Unknown option "\w+" of .*; did you mean "\w+"\?/);
  });
}

Deno.test("every known name passes, every other is refused", () => {
  const known = Object.keys(CLIENT_OPTION_NAMES);
  fc.assert(fc.property(fc.array(fc.constantFrom(...known)), (names) => {
    checkOptionNames(
      Object.fromEntries(names.map((one) => [one, undefined])),
      CLIENT_OPTION_NAMES,
      "it",
    );
  }));
  fc.assert(fc.property(fc.string().filter((name) => !known.includes(name)), (name) => {
    throws(
      () => checkOptionNames(Object.fromEntries([[name, 1]]), CLIENT_OPTION_NAMES, "it"),
      ValidationError,
    );
  }));
});

Deno.test("names of all objects are no options", () => {
  for (const name of ["constructor", "toString", "hasOwnProperty"]) {
    throws(() => checkOptionNames({ [name]: 1 }, { url: true }, "it"), /Unknown option/);
  }
});

Deno.test("options of a part are taken out of those of the whole", () => {
  deepEqual(onlyNamed({ a: 1, b: 2 }, { b: true, c: true }), { b: 2 });
});

Deno.test("an explicit option beats the environment", async () => {
  const { resolveOptions } = await import("../../../src/weights/resolved_options.ts");
  const env = (name: string) => name.endsWith("MODE") ? "retract" : "1";
  const chosen = resolveOptions({
    serverUrl: "http://a",
    pauseMode: "abort",
    flushCache: false,
    env,
  });
  equal(chosen.pauseMode, "abort");
  equal(chosen.flushCache, false);
  const both = resolveOptions({ serverUrl: "http://a", pauseMode: "abort", env });
  equal(both.flushCache, true);
  await rejects(
    Promise.resolve().then(() => resolveOptions({ serverUrl: "http://a", flushCache: true, env })),
    /requires pauseMode 'abort', got 'retract'/,
  );
});
