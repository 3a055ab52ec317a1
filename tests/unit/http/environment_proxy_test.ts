import assert from "node:assert/strict";
import { standIn } from "../../_support/http_stand_in.ts";

/** Asks a server in a Deno of its own, whose environment names a proxy. */
async function askWith(env: Record<string, string>, options: string, url: string): Promise<string> {
  const client = new URL("../../../src/client/mod.ts", import.meta.url).href;
  const code = `import { SGLangClient } from ${JSON.stringify(client)};
    await using client = new SGLangClient({ url: ${
    JSON.stringify(url)
  }, retry: { retries: 0 } ${options} });
    console.log(await client.modelInfo().then((info) => info.modelType, (error) => error.message));`;
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "eval",
      "--no-check",
      `--config=${new URL("../../../deno.json", import.meta.url).pathname}`,
      code,
    ],
    env: { ...env, NO_COLOR: "1" },
  }).output();
  return new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
}

Deno.test("a proxy of the environment is passed by, unless it was asked for", async () => {
  await using server = standIn();
  await using proxy = standIn({
    "GET /model_info": () =>
      new Response("go away", { status: 503, headers: { via: "1.1 squid" } }),
  });
  for (const name of ["http_proxy", "HTTP_PROXY", "ALL_PROXY"]) {
    assert.match(await askWith({ [name]: proxy.url }, "", server.url), /^qwen2/);
  }
  assert.deepEqual(proxy.calls, []);
  const asked = `, proxy: "environment"`;
  const refused = await askWith({ http_proxy: proxy.url }, asked, server.url);
  assert.match(refused, /answered 503: go away.*It came through a proxy \(.*via: 1.1 squid\)/);
  const excepted = { http_proxy: proxy.url, no_proxy: "other,127.0.0.1" };
  assert.match(await askWith(excepted, asked, server.url), /^qwen2/);
});
