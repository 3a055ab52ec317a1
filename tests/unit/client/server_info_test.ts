import assert from "node:assert/strict";
import fc from "fast-check";
import { capabilitiesOf, warnOfUntested } from "../../../src/client/capabilities.ts";
import { silentLogger } from "../../../src/internal/logger.ts";
import { parseLoads, parseServerInfo, withoutSecrets } from "../../../src/client/server_info.ts";
import { serverInfo } from "../../_support/http_stand_in.ts";

Deno.test("server info carries no secret, at any depth and in no command line", () => {
  const info = parseServerInfo({
    ...serverInfo,
    internal_states: [{ api_key: "sk-inner", effective_max_running_requests_per_dp: 8 }],
    launch_command: "python -m sglang.launch_server --api-key sk-line --admin-api-key=sk-line2",
    argv: ["--api-key", "sk-word", "--port", "1"],
    watermark_key: "sk-mark",
    ssl_keyfile_password: "sk-pass",
  });
  assert.equal(JSON.stringify(info).includes("sk-"), false);
  assert.equal(info.tpSize, 2);
  assert.match(JSON.stringify(info.raw), /--port/);
});

Deno.test("the word behind a flag for a secret is removed wherever it stands, and no other", () => {
  const plain = fc.constantFrom(
    "--port",
    "1",
    "--model x",
    "python -m",
    "--",
    "-",
    "a--b",
    "--tp=2",
  );
  const flag = fc.constantFrom("--api-key", "--admin-api-key", "--X-PASSWORD", "no--secret-file");
  const between = fc.constantFrom(" ", "=", "  ", "\n");
  const secret = fc.constantFrom("sk-1", "--sk-2", "sk-'3'", "sk-=4");
  const piece = fc.oneof(
    plain,
    fc.tuple(flag, between, secret).map((parts) => parts.join("")),
  );
  fc.assert(
    fc.property(fc.array(piece), (pieces) => {
      const kept = pieces.map((one) => one.includes("sk-") ? one.replace(/\S*sk-\S*$/, "") : one);
      const shown = withoutSecrets(pieces.join(" ")) as string;
      assert.equal(shown.includes("sk-"), false, shown);
      for (const one of kept) assert.ok(shown.includes(one.trim()), one);
    }),
  );
  // A pattern that begins again within such a run takes minutes for it.
  for (const run of ["-", "--a", "--api-key", "a", " ", "--secret "]) {
    withoutSecrets(run.repeat(200_000));
  }
});

Deno.test("settings with token in their name that are numbers stay", () => {
  const info = parseServerInfo({ ...serverInfo, max_total_tokens: 8192, chunked_prefill_size: 1 });
  assert.equal(info.raw.max_total_tokens, 8192);
});

Deno.test("the requests that run at once are those of all data-parallel ranks", () => {
  const state = { effective_max_running_requests_per_dp: 8 };
  const info = parseServerInfo({ ...serverInfo, internal_states: [state, state] });
  assert.equal(info.maxRunningRequests, 16);
});

Deno.test("the load of a server is the sum over its ranks", () => {
  const rank = { num_running_reqs: 2, num_waiting_reqs: 1, gen_throughput: 10, token_usage: 0.25 };
  assert.deepEqual(parseLoads({ loads: [rank, { ...rank, token_usage: 0.5 }] }), {
    running: 4,
    waiting: 2,
    tokensPerSecond: 20,
    tokenUsage: 0.5,
    cacheHitRate: null,
  });
});

Deno.test("capabilities follow the version", () => {
  const of = (version: string) => capabilitiesOf({ version });
  assert.equal(of("0.5.9").hasFlushTimeout, false);
  assert.equal(of("0.5.10.post1").hasFlushTimeout, true);
  assert.equal(of("0.5.20").hasWeightSession, false);
  assert.equal(of("0.5.20").diesOnBusyFlush, true);
  assert.equal(of("0.5.22").hasWeightSession, true);
  assert.equal(of("0.5.23.dev1+g123").hasReady, true);
  assert.equal(of("0.6.0").hasWeightSession, true);
  assert.throws(() => of("nightly"), /version "nightly" cannot be read/);
});

Deno.test("the stream mode follows the server's settings", () => {
  const of = (settings: object) => capabilitiesOf({ version: "0.5.16", ...settings }).streamMode;
  assert.equal(of({}), "cumulative");
  assert.equal(of({ incremental_streaming_output: true }), "incremental");
  assert.equal(of({ stream_output: true }), "ids_incremental");
});

Deno.test("a version that is newer than all tested ones is told once, others are not", () => {
  for (
    const [version, count] of [["0.5.16", 0], ["0.5.23", 0], ["0.5.24", 1], ["0.6.0", 1], [
      "1.0",
      1,
    ]] as const
  ) {
    const warnings: string[] = [];
    const logger = { ...silentLogger, warn: (text: string) => void warnings.push(text) };
    for (let server = 0; server < 3; server++) warnOfUntested(version, logger);
    assert.equal(warnings.length, count, version);
  }
});
