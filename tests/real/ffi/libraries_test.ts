/**
 * The tables of symbols against the real NCCL and CUDA runtime of SGLang's Python environments, on
 * a machine without a GPU. The libraries are opened here and stay open: they must never be closed.
 */
import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import { NativeError, ValidationError } from "../../../src/errors.ts";
import { Cudart } from "../../../ffi/cudart/mod.ts";
import { NcclGroup } from "../../../ffi/mod.ts";
import { Nccl } from "../../../ffi/nccl/mod.ts";
import { ncclSymbols } from "../../../ffi/nccl/symbols.ts";
import { openLibrary } from "../../../ffi/library.ts";
import { TCPStoreServer } from "../../../src/rendezvous/mod.ts";
import { pythonOf } from "../../_support/real.ts";

const python = pythonOf("0.5.16");
const nccl = Nccl.open({ python });
const newest = Nccl.open({ python: pythonOf("0.5.23") });
const cudart = Cudart.open({ python });
const { symbols } = openLibrary("nccl", ncclSymbols, { python });
// The CUDA runtime stands in for an NCCL without the function.
const table = { ncclMemAlloc: ncclSymbols.ncclMemAlloc } as const;
const { symbols: lacking } = openLibrary("cudart", table, { python });

Deno.test("NCCL of each SGLang version opens and tells its version", () => {
  deepEqual(nccl.version(), { code: 22809, text: "2.28.9" });
  deepEqual(newest.version(), { code: 23007, text: "2.30.7" });
  match(nccl.path, /venv\/lib\/python3\.\d+\/site-packages\/nvidia\/nccl\/lib\/libnccl\.so\.2$/);
});

Deno.test("the symbols that older versions lack are there in this one", () => {
  for (const [name, symbol] of Object.entries(symbols)) ok(symbol !== null, name);
});

Deno.test("an optional symbol that a library lacks does not keep it from opening", () => {
  equal(lacking.ncclMemAlloc, null);
});

Deno.test("NCCL's own words for its results are read", () => {
  deepEqual([0, 1, 2, 3, 4, 5, 6, 7].map((result) => nccl.errorText(result)), [
    "no error",
    "unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
    "unhandled system error (run with NCCL_DEBUG=INFO for details)",
    "internal error - please report this issue to the NCCL developers",
    "invalid argument (run with NCCL_DEBUG=WARN for details)",
    "invalid usage (run with NCCL_DEBUG=WARN for details)",
    "remote process exited or there was a network error",
    "NCCL operation in progress",
  ]);
});

Deno.test("a failed result names the call, NCCL's words and the number", () => {
  throws(() => nccl.check(4, "ncclBroadcast"), (error: NativeError) => {
    match(error.message, /^ncclBroadcast failed with 4 \(invalid argument/);
    return error instanceof NativeError && error.result === 4 && error.call === "ncclBroadcast";
  });
  nccl.check(7, "ncclBroadcast");
});

Deno.test("a unique id of the wrong size is refused before the call", () => {
  throws(
    () => nccl.beginInit(new Uint8Array(127), { rank: 0, worldSize: 2 }),
    (error: Error) => error instanceof ValidationError && /128 bytes/.test(error.message),
  );
});

Deno.test("the CUDA runtime says that the machine has no driver", () => {
  ok(cudart.runtimeVersion() >= 13_000);
  equal(cudart.driverVersion(), 0);
  throws(() => cudart.setDevice(0), (error: NativeError) => {
    match(error.message, /cudaGetDeviceCount failed with 35 \(cudaErrorInsufficientDriver\)/);
    match(error.message, /no NVIDIA driver/);
    return error.result === 35;
  });
});

Deno.test("native memory is read, written and copied by address", async () => {
  const { memory } = cudart;
  const bytes = new Uint8Array([104, 105, 0, 9]);
  const address = memory.addressOf(bytes);
  equal(memory.addressOf(bytes.subarray(1)), address + 1n);
  equal(memory.cString(address), "hi");
  deepEqual(memory.read(address + 1n, 3), new Uint8Array([105, 0, 9]));
  memory.write(address, new Uint8Array([72]));
  memory.copy(address + 3n, address, 1);
  deepEqual(bytes, new Uint8Array([72, 105, 0, 72]));
  await memory.copyAside(address + 2n, address, 2);
  deepEqual(bytes, new Uint8Array([72, 105, 72, 105]));
  bytes[2] = 0;
  equal(memory.cString(0n), "");
  throws(() => memory.read(0n, 1), ValidationError);
});

Deno.test({
  name: "a group on a machine without a GPU is a clear error, not a crash",
  async fn() {
    await using store = TCPStoreServer.listen({ port: 0 });
    const options = { store, worldSize: 2, groupName: "g", libraries: { python } };
    await rejects(NcclGroup.open(options), (error: Error) => {
      match(error.message, /no NVIDIA driver/);
      return error instanceof NativeError;
    });
  },
});

Deno.test("two paths are all the FFI permission that opening needs", async () => {
  const script = `
    import { Nccl } from ${JSON.stringify(import.meta.resolve("../../../ffi/nccl/mod.ts"))};
    import { Cudart } from ${JSON.stringify(import.meta.resolve("../../../ffi/cudart/mod.ts"))};
    const nccl = Nccl.open({ nccl: ${JSON.stringify(nccl.path)} });
    const cudart = Cudart.open({ cudart: ${JSON.stringify(cudart.path)} });
    console.log(nccl.version().text, cudart.memory.cString(cudart.memory.addressOf(
      new Uint8Array([111, 107, 0]))));
  `;
  const file = await Deno.makeTempFile({ suffix: ".ts" });
  await Deno.writeTextFile(file, script);
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--no-check", `--allow-ffi=${nccl.path},${cudart.path}`, file],
    env: { NO_COLOR: "1" },
  }).output();
  await Deno.remove(file);
  equal(new TextDecoder().decode(stderr).replaceAll(/^Warning.*\n/gm, ""), "");
  equal(code, 0);
  equal(new TextDecoder().decode(stdout), "2.28.9 ok\n");
});

Deno.test("libraries stay loaded when the thread that opened them has ended", async () => {
  const script = new URL("./_stays_loaded.ts", import.meta.url).pathname;
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      "--no-check",
      script,
      JSON.stringify({ nccl: nccl.path, cudart: cudart.path }),
    ],
  }).output();
  const said = new TextDecoder().decode(stdout);
  const asExpected = '{"began":true,"ended":true,"mapped":[true,true]}';
  equal(said, asExpected, said + new TextDecoder().decode(stderr));
});

Deno.test("a handle that is collected without being freed tells of it", async () => {
  const script = `
    import { DeviceBuffer } from ${
    JSON.stringify(import.meta.resolve("../../../ffi/cudart/handles.ts"))
  };
    new DeviceBuffer(1n, 4096, () => {});
    { using kept = new DeviceBuffer(2n, 1, () => {}); void kept; }
    for (let i = 0; i < 5; i++) { gc(); await new Promise((resolve) => setTimeout(resolve, 10)); }
  `;
  const { stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--v8-flags=--expose-gc", "--ext=js", script],
    env: { NO_COLOR: "1" },
  }).output();
  const said = new TextDecoder().decode(stderr);
  match(said, /SGLangLeak.*device buffer of 4096 bytes was dropped without dispose/);
  ok(!said.includes("of 1 bytes"));
});
