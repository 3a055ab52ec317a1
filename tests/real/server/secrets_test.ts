import assert from "node:assert/strict";
import { startRealRouter, startRealServer } from "../../_support/real.ts";

const keys = {
  apiKey: "server-key-that-nobody-may-see",
  adminApiKey: "admin-key-that-nobody-may-see",
  routerKey: "router-key-that-nobody-may-see",
};

/** Where a key can be read by `ps` or in the environment of a process, by process and file. */
async function seen(): Promise<string[]> {
  const found: string[] = [];
  for await (const { name: pid } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    for (const file of ["cmdline", "environ", "comm"]) {
      const text = await Deno.readTextFile(`/proc/${pid}/${file}`).catch(() => "");
      for (const [name, key] of Object.entries(keys)) {
        if (text.includes(key)) found.push(`${name} in ${file} of ${text.slice(0, 100)}`);
      }
    }
  }
  return found;
}

async function statusOf(url: string, key?: string): Promise<number> {
  const response = await fetch(url, {
    headers: key === undefined ? {} : { authorization: `Bearer ${key}` },
  });
  await response.body?.cancel();
  return response.status;
}

Deno.test("keys of a server and of a router are used, and no list of processes shows them", async () => {
  const { apiKey, adminApiKey, routerKey } = keys;
  const starting = startRealServer({ apiKey, adminApiKey });
  // Also while it starts: the keeper, the launcher and whatever they start.
  const early = new Set<string>();
  let isStarting = true;
  const looking = (async () => {
    while (isStarting) {
      for (const one of await seen()) early.add(one);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  })();
  await using server = await starting.finally(() => isStarting = false);
  await looking;
  assert.deepEqual([...early], []);
  await using router = await startRealRouter({ workers: [], apiKey: routerKey });
  await router.addWorker(server.url, { apiKey });
  assert.deepEqual(await seen(), []);
  assert.equal(await statusOf(`${server.url}/server_info`), 401);
  assert.equal(await statusOf(`${server.url}/server_info`, apiKey), 200);
  assert.equal(await statusOf(`${router.url}/workers`), 401);
  assert.equal(await statusOf(`${router.url}/workers`, routerKey), 200);
});
