/** A server that answers every request with the same sample at once; for bench/client.ts. */
const sample = JSON.stringify({
  text: "y".repeat(64),
  output_ids: Array.from({ length: 16 }, (_, i) => i),
  meta_info: {
    id: "r",
    finish_reason: { type: "length", length: 16 },
    prompt_tokens: 100,
    weight_version: "default",
    output_token_logprobs: Array.from({ length: 16 }, (_, i) => [-1.2345678901234, i, null]),
    completion_tokens: 16,
    cached_tokens: 0,
    e2e_latency: 0.01,
  },
});
const headers = { "content-type": "application/json" };
const server = Deno.serve(
  { hostname: "127.0.0.1", port: 0, onListen: ({ port }) => Deno.stdout.writeSync(line(port)) },
  async (request) => {
    await request.arrayBuffer();
    return new Response(sample, { headers });
  },
);

function line(port: number): Uint8Array {
  return new TextEncoder().encode(`${port}\n`);
}

await server.finished;
