/** A scripted server for weight sync and a group that keeps what is broadcast. */
import type {
  BroadcastPart,
  CollectiveGroup,
  OpenGroupOptions,
} from "../../src/weights/transport/mod.ts";
import { type StandIn, standIn, type StandInHandler } from "./http_stand_in.ts";

const ok = (message = "ok") => Response.json({ success: true, message });

/** A healthy CPU server of 0.5.16, or as the handlers and `info` say. */
export function weightsStandIn(
  handlers: Readonly<Record<string, StandInHandler>> = {},
  info: Readonly<Record<string, unknown>> = {},
): StandIn & { weightVersion: string } {
  const state = { weightVersion: "default" };
  const server = standIn({
    "GET /server_info": () =>
      Response.json({
        version: "0.5.16",
        tp_size: 1,
        dp_size: 1,
        pp_size: 1,
        device: "cpu",
        model_path: "/models/tiny",
        ...info,
      }),
    "GET /model_info": () =>
      Response.json({
        model_path: "/models/tiny",
        tokenizer_path: "/models/tiny",
        weight_version: state.weightVersion,
        model_type: "qwen2",
        architectures: [],
      }),
    "GET /v1/loads": () => Response.json({ loads: [{ num_running_reqs: 0, num_waiting_reqs: 0 }] }),
    "POST /update_weight_version": ({ body }) => {
      state.weightVersion = String(body?.new_version);
      return ok();
    },
    "POST /init_weights_update_group": () => ok(),
    "POST /update_weights_from_distributed": () => ok(),
    "POST /destroy_weights_update_group": () => ok(),
    "POST /begin_weight_update": () => ok(),
    "POST /end_weight_update": () => ok(),
    "POST /pause_generation": () => Response.json({ status: "ok" }),
    "POST /abort_request": () => new Response(""),
    "POST /continue_generation": () => Response.json({ status: "ok" }),
    "POST /flush_cache": () => new Response("Cache flushed."),
    ...handlers,
  });
  return {
    url: server.url,
    requests: server.requests,
    get calls() {
      return server.calls;
    },
    get weightVersion() {
      return state.weightVersion;
    },
    set weightVersion(version: string) {
      state.weightVersion = version;
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** What groups of {@linkcode recordingGroups} were asked for and what they sent. */
export interface Recorded {
  readonly opened: OpenGroupOptions[];
  readonly sent: BroadcastPart[];
  readonly aborted: Error[];
}

/** Groups that only keep what is broadcast. */
export function recordingGroups() {
  const recorded: Recorded = { opened: [], sent: [], aborted: [] };
  const openGroup = (options: OpenGroupOptions): Promise<CollectiveGroup> => {
    recorded.opened.push(options);
    const { masterAddress, masterPort, groupName, worldSize } = options;
    return Promise.resolve({
      backend: "gloo",
      masterAddress,
      masterPort,
      groupName,
      worldSize,
      connect: () => Promise.resolve(),
      broadcast(parts) {
        recorded.sent.push(...parts.map(({ bytes, dtype }) => ({ bytes: bytes.slice(), dtype })));
        return Promise.resolve();
      },
      abort(reason) {
        recorded.aborted.push(reason);
        return Promise.resolve();
      },
      close: () => Promise.resolve(),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    });
  };
  return { ...recorded, openGroup };
}
