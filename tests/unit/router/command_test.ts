import assert from "node:assert/strict";
import { checkRouterOptions, routerArgs } from "../../../src/router/command.ts";
import type { SGLangRouterOptions } from "../../../src/router/mod.ts";

const ports = { port: 31_000, prometheusPort: 31_001 };

function argsOf(options: Partial<SGLangRouterOptions>): string {
  return routerArgs({ workers: [], ...options }, ports).join(" ");
}

Deno.test("a router is cache-aware, breaks no circuit, and has a metrics port of its own", () => {
  const args = argsOf({ workers: ["http://a:1/", "http://b:2"] });
  assert.match(args, /^--host 127\.0\.0\.1 --port 31000 /);
  assert.match(args, /--policy cache_aware /);
  assert.match(args, /--prometheus-host 127\.0\.0\.1 --prometheus-port 31001 /);
  assert.match(args, /--disable-circuit-breaker /);
  assert.match(args, / --worker-urls http:\/\/a:1 http:\/\/b:2$/);
});

Deno.test("times are given in whole seconds, and no attempt but one turns retries off", () => {
  const args = argsOf({ requestTimeoutMs: 1500, attempts: 1, circuitBreaker: true });
  assert.match(args, /--request-timeout-secs 2 /);
  assert.match(args, /--disable-retries --retry-max-retries 1 /);
  assert.doesNotMatch(args, /--disable-circuit-breaker/);
});

Deno.test("further flags pass through, and those with an option are refused", () => {
  assert.match(argsOf({ args: { cacheThreshold: 0.5 } }), /--cache-threshold 0\.5$/);
  assert.match(
    argsOf({ args: { workerStartupCheckInterval: 7 } }),
    /^(?!.*--worker-startup-check-interval 1).*--worker-startup-check-interval 7/,
  );
  assert.throws(() => argsOf({ args: { "worker-urls": "x" } }), /use the option `workers` instead/);
});

Deno.test("options that are wrong are refused by name", () => {
  const refused: [object, RegExp][] = [
    [{ workers: ["127.0.0.1:1"] }, /"127\.0\.0\.1:1" is not the address of a server/],
    [{ workers: ["http://user:pw@a:1"] }, /must not hold a password; give `apiKey`/],
    [{ workers: ["http://a:1", "http://a:1/"] }, /names a server twice/],
    [{ workers: "http://a:1" }, /`workers` must be a list of addresses/],
    [{ policy: "fastest" }, /`policy` must be one of cache_aware, random,/],
    [{ port: 0 }, /`port` must be a whole number from 1 to 65535, not 0/],
    [{ attempts: 0 }, /`attempts` must be a whole number from 1/],
    [{ polcy: "random" }, /Unknown option "polcy" of a router; did you mean "policy"\?/],
  ];
  for (const [options, message] of refused) {
    assert.throws(
      () => checkRouterOptions({ workers: [], ...options } as SGLangRouterOptions),
      message,
    );
  }
});
