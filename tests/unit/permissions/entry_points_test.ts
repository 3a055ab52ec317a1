/** Every entry point with exactly the permissions of docs/permissions.md, and with one fewer. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { EmbeddedServer, makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { getOpenPort } from "../../../src/process/mod.ts";
import { hasPython } from "../process/_tree.ts";
import type { Outcome, Places, UseName } from "./_entry_points.ts";

const root = new URL("../../../", import.meta.url).pathname;
const program = new URL("./_entry_points.ts", import.meta.url).pathname;

/** Stands in for SGLang and for its router: a process that is ready and knows no workers. */
const standIn = `
import http.server, sys
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"workers": []}')
    def log_message(self, *args): pass
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Ready).serve_forever()
`;

let server: EmbeddedServer;
let places: Places;

Deno.test.beforeAll(async () => {
  // Inside the project, where the named sets of deno.json may read and write.
  await Deno.mkdir(`${root}.cache`, { recursive: true });
  const folder = await Deno.makeTempDir({ dir: `${root}.cache`, prefix: "permissions-" });
  const checkpoint = join(folder, "step-0");
  await makeTinyCheckpoint(checkpoint);
  await Deno.mkdir(join(folder, "output"));
  for (const path of ["sglang/launch_server.py", "sglang_router/launch_router.py"]) {
    const [name] = path.split("/") as [string];
    await Deno.mkdir(join(folder, "python", name), { recursive: true });
    await Deno.writeTextFile(join(folder, "python", name, "__init__.py"), "");
    await Deno.writeTextFile(join(folder, "python", path), standIn);
  }
  server = await EmbeddedServer.start({ model: checkpoint });
  places = {
    server: server.url,
    checkpoint,
    output: join(folder, "output"),
    python: "python3",
    pythonPath: join(folder, "python"),
    port: getOpenPort(),
  };
});

Deno.test.afterAll(async () => {
  await server.close();
  await Deno.remove(join(places.checkpoint, ".."), { recursive: true });
});

async function attempt(
  flags: readonly string[],
  names: readonly UseName[],
): Promise<Record<string, Outcome>> {
  const given = ["--no-check", "--no-prompt", "--quiet", "--cached-only", ...flags];
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", ...given, program, JSON.stringify(places), ...names],
    cwd: root,
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  const out = decoder.decode(stdout);
  assert.notEqual(out, "", decoder.decode(stderr));
  return JSON.parse(out);
}

/** Flags by a short name, so that one can be left out and looked for. */
type Flags = Readonly<Record<string, string>>;

interface Case {
  readonly uses: readonly UseName[];
  readonly flags: (places: Places) => Flags;
  readonly needsPython?: boolean;
}

const own = `${root}src,${root}ffi`;
const net = ({ server }: Places) => `--allow-net=${new URL(server).host}`;
const loopback = "--allow-net=127.0.0.1";

const cases: Readonly<Record<string, Case>> = {
  "a client, an engine, a router, a wrapper and a collector need the server's address": {
    uses: ["client", "connect", "routerWorkers", "wrapper", "collector"],
    flags: (places) => ({ net: net(places) }),
  },
  "a local tokenizer and the model's metadata need the folder, too": {
    uses: ["localTokenizer", "modelMetadata"],
    flags: (places) => ({ net: net(places), read: `--allow-read=${places.checkpoint}` }),
  },
  "weight sync by gloo needs this machine's address and the checkpoint": {
    uses: ["gloo"],
    flags: ({ checkpoint }) => ({ net: loopback, read: `--allow-read=${checkpoint}` }),
  },
  "weight sync by disk needs the server's address and the checkpoint": {
    uses: ["diskOfTheCheckpoint"],
    flags: (places) => ({ net: net(places), read: `--allow-read=${places.checkpoint}` }),
  },
  "weight sync by disk needs the folder that it writes to": {
    uses: ["diskWritten"],
    flags: (places) => ({
      net: net(places),
      read: `--allow-read=${places.checkpoint},${places.output}`,
      write: `--allow-write=${places.output}`,
    }),
  },
  "managed servers and routers need Python and this machine": {
    uses: ["managedServer", "managedRouter"],
    flags: ({ python }) => ({ net: loopback, run: `--allow-run=${python}` }),
    needsPython: true,
  },
  "a checkpoint is read with its folder": {
    uses: ["readCheckpoint"],
    flags: ({ checkpoint }) => ({ read: `--allow-read=${checkpoint}` }),
  },
  "checkpoints are written with the folder": {
    uses: ["writeCheckpoint", "tinyCheckpoint"],
    flags: ({ output }) => ({
      read: `--allow-read=${output}`,
      write: `--allow-write=${output}`,
    }),
  },
  "an embedded server needs the checkpoint and this machine": {
    uses: ["embeddedServer"],
    flags: ({ checkpoint }) => ({ net: loopback, read: `--allow-read=${checkpoint}` }),
  },
  "a store needs its own address": {
    uses: ["store"],
    flags: ({ port }) => ({ net: `--allow-net=127.0.0.1:${port}` }),
  },
  "an open port is found with this machine": {
    uses: ["openPort"],
    flags: () => ({ net: loopback }),
  },
};

const pythonIsThere = await hasPython();

for (const [name, { uses, flags, needsPython = false }] of Object.entries(cases)) {
  Deno.test({
    name: `${name}, and each that is missing is named`,
    ignore: needsPython && !pythonIsThere,
    async fn() {
      const all = flags(places);
      const works = await attempt(Object.values(all), uses);
      for (const use of uses) assert.equal(works[use]?.error, null, works[use]?.message);
      for (const missing of Object.keys(all)) {
        const rest = Object.entries(all).filter(([kind]) => kind !== missing);
        const outcomes = await attempt(rest.map(([, flag]) => flag), uses);
        for (const use of uses) {
          const { error, flag, message } = outcomes[use]!;
          const what = `${use} without ${all[missing]}: ${error} ${flag} ${message}`;
          assert.ok(flag !== null && flag.startsWith(`--allow-${missing}=`), what);
          assert.ok(message.includes(flag), what);
        }
      }
    },
  });
}

Deno.test("nccl needs this library's own files, then the two libraries by path", async () => {
  const at = `--allow-net=127.0.0.1:${places.port}`;
  const libraries = "/nowhere/libnccl.so.2,/nowhere/libcudart.so.12";
  const { nccl: noThread } = await attempt([at], ["nccl"]);
  assert.ok(noThread!.flag?.startsWith("--allow-read="), noThread!.message);
  const { nccl: noLibraries } = await attempt([at, `--allow-read=${own}`], ["nccl"]);
  assert.equal(noLibraries!.error, "PermissionError");
  assert.match(noLibraries!.flag!, /^--allow-ffi=\/nowhere\/libcudart/);
  // With all of them it gets as far as looking for the libraries, which are not there.
  const all = [at, `--allow-read=${own}`, `--allow-ffi=${libraries}`];
  const { nccl: looked } = await attempt(all, ["nccl"]);
  assert.equal(looked!.error, "LibraryError", looked!.message);
  assert.doesNotMatch(looked!.message, /run again with/);
});

/** The named sets of deno.json, for work on this machine. */
const sets: Readonly<Record<string, readonly UseName[]>> = {
  connect: ["client", "connect", "wrapper", "collector", "store", "openPort"],
  policy: ["localTokenizer", "modelMetadata"],
  gloo: ["gloo"],
  disk: ["diskOfTheCheckpoint", "diskWritten"],
  managed: pythonIsThere ? ["managedServer", "managedRouter"] : [],
  testing: ["tinyCheckpoint", "embeddedServer"],
};

Deno.test("the named sets of deno.json suffice for what they are named after", async () => {
  await Deno.remove(join(places.output, "tiny"), { recursive: true });
  for (const [set, uses] of Object.entries(sets)) {
    const outcomes = await attempt([`-P=${set}`], uses);
    for (const use of uses) assert.equal(outcomes[use]?.error, null, outcomes[use]?.message);
  }
});
