/** A proxy of the environment between us and a managed server of this machine. */
import assert from "node:assert/strict";

const support = new URL("../../_support/real.ts", import.meta.url).href;
const client = new URL("../../../src/client/mod.ts", import.meta.url).href;
const code = `
import { startRealServer } from ${JSON.stringify(support)};
import { SGLangClient } from ${JSON.stringify(client)};
await using server = await startRealServer();
await using asked = new SGLangClient({ url: server.url });
const { ids } = await asked.generate({ text: "Hello", samplingParams: { maxNewTokens: 3, ignoreEos: true } });
console.log("generated", ids.length);
`;

Deno.test("a managed server is started, found ready and asked past a proxy of the environment", async () => {
  const asked: string[] = [];
  await using proxy = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request) => {
    asked.push(request.url);
    return new Response("the proxy refuses", { status: 503, headers: { via: "1.1 squid" } });
  });
  const url = `http://127.0.0.1:${proxy.addr.port}`;
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "eval",
      "--no-check",
      `--config=${new URL("../../../deno.json", import.meta.url).pathname}`,
      code,
    ],
    env: { http_proxy: url, HTTP_PROXY: url, all_proxy: url, NO_COLOR: "1" },
  }).output();
  const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  assert.match(said, /generated 3/);
  assert.deepEqual(asked, []);
});
