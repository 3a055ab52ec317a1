/** A scripted HTTP server: for the faults and orders of calls that a real SGLang cannot show. */

/** A request as the stand-in saw it. */
export interface SeenRequest {
  readonly method: string;
  /** Path with query. */
  readonly path: string;
  readonly headers: Headers;
  /** Parsed JSON body; `undefined` without one. */
  readonly body: Readonly<Record<string, unknown>> | undefined;
}

/** Answers one request. */
export type StandInHandler = (request: SeenRequest) => Response | Promise<Response>;

/** A running stand-in. */
export interface StandIn extends AsyncDisposable {
  readonly url: string;
  readonly requests: readonly SeenRequest[];
  /** `METHOD /path` of every request, in order. */
  readonly calls: readonly string[];
}

/** Answers of an idle, healthy server; a test overrides what it is about. */
export const healthyServer: Readonly<Record<string, StandInHandler>> = {
  "GET /health": () => new Response(null),
  "GET /server_info": () => Response.json(serverInfo),
  "GET /model_info": () => Response.json(modelInfo),
  "POST /abort_request": () => new Response(null),
  "POST /generate": () => Response.json(answer()),
};

/** What `/server_info` of the stand-in says. */
export const serverInfo = {
  version: "0.5.16",
  tp_size: 2,
  dp_size: 3,
  pp_size: 1,
  model_path: "/models/tiny",
  max_running_requests: 16,
  max_total_num_tokens: 8192,
  max_req_input_len: 2042,
  api_key: "sk-secret",
  admin_api_key: "sk-admin-secret",
};

/** What `/model_info` of the stand-in says. */
export const modelInfo = {
  model_path: "/models/tiny",
  tokenizer_path: "/models/tiny",
  weight_version: "default",
  model_type: "qwen2",
  architectures: ["Qwen2ForCausalLM"],
};

/** An answer of `/generate` with the given output ids. */
export function answer(
  ids: readonly number[] = [5, 6],
  meta: Readonly<Record<string, unknown>> = {},
): Record<string, unknown> {
  return {
    text: ids.map((id) => `<${id}>`).join(""),
    output_ids: ids,
    meta_info: {
      id: "r",
      finish_reason: { type: "length", length: ids.length },
      prompt_tokens: 3,
      completion_tokens: ids.length,
      cached_tokens: 0,
      weight_version: "default",
      e2e_latency: 0.01,
      ...meta,
    },
  };
}

/** An answer of `text/event-stream` with these events and `[DONE]`. */
export function eventStream(events: readonly unknown[]): Response {
  const data = [...events.map((event) => JSON.stringify(event)), "[DONE]"];
  return new Response(data.map((line) => `data: ${line}\n\n`).join(""), {
    headers: { "content-type": "text/event-stream" },
  });
}

/** The refusal from which a client learns the vocabulary size. */
export function vocabularyRefusal(size: number): Response {
  const message = `logit_bias must has keys in [0, ${size - 1}], got 2147483647.`;
  return Response.json({ error: { message } }, { status: 400 });
}

/** Starts a stand-in on a free port. Keys of `handlers` are `METHOD /path`; others answer 404. */
export function standIn(
  handlers: Readonly<Record<string, StandInHandler>> = healthyServer,
): StandIn {
  const requests: SeenRequest[] = [];
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, async (request) => {
    const { pathname, search } = new URL(request.url);
    const text = await request.text();
    const seen: SeenRequest = {
      method: request.method,
      path: pathname + search,
      headers: request.headers,
      body: text === "" ? undefined : JSON.parse(text),
    };
    requests.push(seen);
    const handler = handlers[`${request.method} ${pathname}`];
    return await handler?.(seen) ?? Response.json({ detail: "Not Found" }, { status: 404 });
  });
  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    requests,
    get calls() {
      return requests.map(({ method, path }) => `${method} ${path.split("?")[0]}`);
    },
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}
