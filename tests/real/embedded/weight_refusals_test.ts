/** What a real server refuses of a weight update, the embedded one refuses too, for the same reason. */
import assert from "node:assert/strict";
import { GlooGroup } from "../../../src/collective/gloo/group.ts";
import { EmbeddedServer, type EmulatedVersion } from "../../../src/embedded/mod.ts";
import { modelPath, startRealServer } from "../../_support/real.ts";
import { type Json, send } from "./_support.ts";

const LIMIT_MS = 20_000;
const NORM = "model.norm.weight";

/** A server's answer without the words that no two programs share. */
interface Verdict {
  readonly status: number;
  /** Kinds of a refused form, or the first words of a refused update. */
  readonly kinds: readonly string[];
}

function verdictOf({ status, body }: { status: number; body: unknown }): Verdict {
  if (status === 200) return { status, kinds: [] };
  const said = body as { message?: string; error?: { message: string }; detail?: string };
  const message = (said.message ?? said.error?.message ?? said.detail ?? "")
    // What torch says of its GPUs in a process that was forked.
    .replace(/^Cannot re-initialize CUDA in forked.*/, "Found no NVIDIA driver on your system");
  const forms = [...message.matchAll(/'type': '(\w+)'/g)].map(([, type]) => type!);
  return { status, kinds: forms.length > 0 ? forms : [message.replace(/[:.].*$/s, "")] };
}

/** Ours must have the status of the real one, and one of its reasons. */
function assertAlike(ours: Verdict, real: Verdict): void {
  assert.equal(ours.status, real.status, JSON.stringify({ ours, real }));
  if (real.status === 200) return;
  assert.ok(real.kinds.includes(ours.kinds[0]!), JSON.stringify({ ours, real }));
}

const init = {
  master_address: "127.0.0.1",
  master_port: 1,
  rank_offset: 1,
  world_size: 2,
  group_name: "g",
  backend: "gloo",
};

/** Calls without a group. */
const calls: Readonly<Record<string, readonly [path: string, body: Json]>> = {
  "an init without an address": ["/init_weights_update_group", {
    ...init,
    master_address: undefined,
  }],
  "an init whose port is a word": ["/init_weights_update_group", { ...init, master_port: "x" }],
  "an init whose port has a fraction": ["/init_weights_update_group", {
    ...init,
    master_port: 1.5,
  }],
  "the end of a group that is not there": ["/destroy_weights_update_group", { group_name: "x" }],
  "a group name that is a number": ["/destroy_weights_update_group", { group_name: 5 }],
  "no version": ["/update_weight_version", {}],
  "a version that is a number": ["/update_weight_version", { new_version: 5 }],
  "an unknown check": ["/weights_checker", { action: "nope" }],
  "a checksum": ["/weights_checker", { action: "checksum" }],
  "a comparison": ["/weights_checker", { action: "compare" }],
  "a weight that is not there": ["/get_weights_by_name", { name: "nope" }],
  "a weight without a name": ["/get_weights_by_name", {}],
  "no folder": ["/update_weights_from_disk", {}],
  "a folder that is not there": ["/update_weights_from_disk", { model_path: "/nowhere" }],
};

/** A tensor that the server is told of, and the bytes that are sent. */
interface Update {
  readonly body: Json;
  readonly sent: readonly number[];
}

const one = (body: Json, sent: readonly number[] = []): Update => ({
  body: { names: [NORM], dtypes: ["float32"], shapes: [[64]], ...body },
  sent,
});
const bucket = { load_format: "flattened_bucket" };

/** Updates within a group. */
const updates: Readonly<Record<string, Update>> = {
  "a good one": one({}, [256]),
  "a good bucket": one(bucket, [256]),
  "no names": one({ names: undefined }),
  "names that are one text": one({ names: NORM }),
  "names that are numbers": one({ names: [5] }),
  "no types": one({ dtypes: undefined }),
  "shapes of words": one({ shapes: [["a"]] }),
  "shapes that are not nested": one({ shapes: [64] }),
  "shapes with fractions": one({ shapes: [[6.5]] }),
  "shapes as texts of digits": one({ shapes: [["64"]] }, [256]),
  "a version that is a number": one({ weight_version: 5 }),
  "an unknown type": one({ dtypes: ["float17"] }),
  "a type by its full name": one({ dtypes: ["torch.float32"] }),
  "an unknown type in a bucket": one({ dtypes: ["float17"], ...bucket }),
  "a negative size": one({ shapes: [[-64]] }),
  "an unknown name": one({ names: ["model.nope.weight"] }, [256]),
  "another shape": one({ shapes: [[32]] }, [128]),
  "another shape in a bucket": one({ shapes: [[32]], ...bucket }, [128]),
  "a type that is cast": one({ dtypes: ["bfloat16"] }, [128]),
  "the same weight twice": one({
    names: [NORM, NORM],
    dtypes: ["float32", "float32"],
    shapes: [[64], [64]],
  }, [256, 256]),
  "more names than types": one({ names: [NORM, "x"] }, [256]),
  "more types than names": one({ dtypes: ["float32", "float32"] }, [256]),
  "nothing": one({ names: [], dtypes: [], shapes: [] }),
  "an empty bucket": one({ names: [], dtypes: [], shapes: [], ...bucket }),
};

/** A group "g" of this process and a server. */
async function joinedGroup(url: string, signal: AbortSignal): Promise<GlooGroup> {
  await using stack = new AsyncDisposableStack();
  const group = stack.use(
    await GlooGroup.open(
      { masterAddress: "127.0.0.1", masterPort: 0, groupName: "g", worldSize: 2 },
      { signal },
    ),
  );
  const joined = send(url, "/init_weights_update_group", {
    ...init,
    master_port: group.masterPort,
  });
  await group.connect({ signal });
  assert.equal((await joined).status, 200);
  stack.move();
  return group;
}

/** Does an update over a group of its own. */
async function update(
  url: string,
  { body, sent }: Update,
  needsSession: boolean,
): Promise<Verdict> {
  const signal = AbortSignal.timeout(LIMIT_MS);
  await using group = await joinedGroup(url, signal);
  if (needsSession) await send(url, "/begin_weight_update", {});
  const answer = send(url, "/update_weights_from_distributed", {
    group_name: "g",
    flush_cache: false,
    ...body,
  });
  if (sent.length > 0) {
    const parts = sent.map((size) => ({ bytes: new Uint8Array(size), dtype: "uint8" as const }));
    await group.broadcast(parts, { signal });
  }
  const verdict = verdictOf(await answer);
  if (needsSession) await send(url, "/end_weight_update", {});
  await send(url, "/destroy_weights_update_group", { group_name: "g" });
  return verdict;
}

/** What a late update is told when its group was ended by whoever overtook its trainer. */
async function lateUpdate(url: string, body: Json, needsSession: boolean): Promise<Verdict> {
  const name = `late-${crypto.randomUUID()}`;
  // Ended, and in its place a group of a device that is not there; or, with sessions, none.
  if (!needsSession) {
    const dead = { rank_offset: 0, world_size: 1, master_port: 0, backend: "cuda:gloo" };
    const put = { ...init, ...dead, group_name: name };
    assert.equal((await send(url, "/init_weights_update_group", put)).status, 200);
    assert.equal((await send(url, "/init_weights_update_group", put)).status, 400);
  } else {
    await send(url, "/begin_weight_update", {});
  }
  const late = { ...one({}).body, ...body, group_name: name, flush_cache: false };
  const answer = await send(url, "/update_weights_from_distributed", {
    ...late,
    weight_version: "late",
  });
  if (needsSession) await send(url, "/end_weight_update", {});
  await send(url, "/destroy_weights_update_group", { group_name: name });
  const { body: info } = await send(url, "/model_info");
  assert.notEqual((info as { weight_version: string }).weight_version, "late");
  return verdictOf(answer);
}

/** Which of an update that waits for its bytes and the end of its group is answered first. */
async function endWhileWaiting(url: string, needsSession: boolean): Promise<string[]> {
  const signal = AbortSignal.timeout(LIMIT_MS);
  const order: string[] = [];
  await using group = await joinedGroup(url, signal);
  if (needsSession) await send(url, "/begin_weight_update", {});
  const noted = async (name: string, call: ReturnType<typeof send>) =>
    order.push(`${name} ${(await call).status}`);
  const update = { ...one({}).body, group_name: "g", flush_cache: false };
  const calls = [noted("update", send(url, "/update_weights_from_distributed", update))];
  await new Promise((resolve) => setTimeout(resolve, 300));
  calls.push(noted("end", send(url, "/destroy_weights_update_group", { group_name: "g" })));
  await new Promise((resolve) => setTimeout(resolve, 300));
  await group.broadcast([{ bytes: new Uint8Array(256), dtype: "uint8" }], { signal });
  await Promise.all(calls);
  if (needsSession) await send(url, "/end_weight_update", {});
  return order;
}

for (const version of ["0.5.16", "0.5.23"] satisfies EmulatedVersion[]) {
  Deno.test(`${version}: what a weight update may not be, neither server takes`, async (t) => {
    const needsSession = version === "0.5.23";
    await using real = await startRealServer({ version });
    await using embedded = await EmbeddedServer.start({ model: modelPath("tiny"), version });
    for (const [title, [path, body]] of Object.entries(calls)) {
      await t.step(title, async () => {
        assertAlike(
          verdictOf(await send(embedded.url, path, body)),
          verdictOf(await send(real.url, path, body)),
        );
      });
    }
    for (const [title, given] of Object.entries(updates)) {
      await t.step(title, async () => {
        const theirs = await update(real.url, given, needsSession);
        assertAlike(await update(embedded.url, given, needsSession), theirs);
      });
    }
    for (const [title, body] of Object.entries({ "one by one": {}, "in a bucket": bucket })) {
      await t.step(`an update whose group another has ended, ${title}`, async () => {
        const theirs = await lateUpdate(real.url, body, needsSession);
        assert.equal(theirs.status, 400);
        assertAlike(await lateUpdate(embedded.url, body, needsSession), theirs);
      });
    }
    await t.step("the end of a group in whose broadcast an update waits", async () => {
      const theirs = await endWhileWaiting(real.url, needsSession);
      assert.deepEqual(theirs, ["update 200", "end 200"]);
      assert.deepEqual(await endWhileWaiting(embedded.url, needsSession), theirs);
    });
  });
}
