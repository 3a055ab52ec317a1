import assert from "node:assert/strict";
import { ValidationError } from "../../../src/errors.ts";
import { checkServerOptions, launchArgs, launchEnv } from "../../../src/server/command.ts";
import type { SGLangServerOptions } from "../../../src/server/mod.ts";

const ports = { port: 30_000, ncclPort: 30_001 };

function argsOf(options: Partial<SGLangServerOptions>): string[] {
  return launchArgs({ model: "m", ...options }, ports);
}

/** What follows the arguments that every launch has. */
function furtherArgs(options: Partial<SGLangServerOptions>): string[] {
  return argsOf(options).slice(argsOf({}).length);
}

// case 15

Deno.test("the command names model, host, port and sizes first, then the other flags", () => {
  const options = { model: "org/name", tpSize: 2, dpSize: 1, baseGpuId: 4, contextLength: 4096 };
  assert.deepEqual(launchArgs(options, ports), [
    ...["--model-path", "org/name"],
    ...["--host", "127.0.0.1"],
    ...["--port", "30000"],
    ...["--tp-size", "2"],
    ...["--dp-size", "1"],
    ...["--base-gpu-id", "4"],
    ...["--nccl-port", "30001"],
    ...["--context-length", "4096"],
  ]);
});

// case 15

Deno.test("true gives the bare flag, false omits it, a list gives all its values", () => {
  assert.deepEqual(furtherArgs({ disableCudaGraph: true, enableLora: false }), [
    "--disable-cuda-graph",
  ]);
  assert.deepEqual(furtherArgs({ loraPaths: ["a=/a", "b=/b"], customWeightLoader: [] }), [
    "--lora-paths",
    "a=/a",
    "b=/b",
  ]);
});

Deno.test("further flags are taken in any case style", () => {
  const args = { cudaGraphMaxBs: 64, "--enable-mixed-chunk": true, schedule_policy: "lpm" };
  assert.deepEqual(furtherArgs({ args }), [
    "--cuda-graph-max-bs",
    "64",
    "--enable-mixed-chunk",
    "--schedule-policy",
    "lpm",
  ]);
});

Deno.test("a value that begins with a dash stays with its flag", () => {
  assert.deepEqual(furtherArgs({ args: { offset: -1, note: "--x" } }), [
    "--offset=-1",
    "--note=--x",
  ]);
});

Deno.test("a flag that has an option of its own is refused among the further ones", () => {
  assert.throws(() => argsOf({ args: { model_path: "other" } }), {
    name: "ValidationError",
    message: "`args` sets --model-path; use the option `model` instead",
  });
  assert.throws(() => argsOf({ args: { "tp-size": 2 } }), /use the option `tpSize` instead/);
});

Deno.test("a value that is no flag's value is refused", () => {
  assert.throws(() => argsOf({ args: { a: NaN } }), ValidationError);
  assert.throws(() => argsOf({ args: { "not a flag": 1 } }), ValidationError);
});

Deno.test("a CPU server gets the flags and variables that it needs, and the user's where both say", () => {
  const args = argsOf({ device: "cpu", dtype: "bfloat16", sleepOnIdle: false });
  const pairs = args.join(" ");
  assert.match(pairs, /--device cpu --attention-backend torch_native --sampling-backend pytorch/);
  assert.match(pairs, /--disable-overlap-schedule --disable-cuda-graph/);
  assert.match(pairs, /--dtype bfloat16/);
  assert.equal(args.includes("--sleep-on-idle"), false);
  const env = launchEnv({ model: "m", device: "cpu", env: { OMP_NUM_THREADS: "4" } });
  assert.equal(env.SGLANG_USE_CPU_ENGINE, "1");
  assert.equal(env.CUDA_VISIBLE_DEVICES, "");
  assert.equal(env.OMP_NUM_THREADS, "4");
  assert.equal("TORCH_NCCL_ASYNC_ERROR_HANDLING" in env, false);
});

Deno.test("a server asks itself past a proxy of the environment, beside what is excepted already", () => {
  const env = (name: string) =>
    name === "no_proxy" ? "mirror.example, 10.0.0.0/8,localhost" : undefined;
  const { no_proxy, NO_PROXY } = launchEnv({ model: "m", host: "10.1.2.3" }, env);
  assert.equal(no_proxy, "mirror.example,10.0.0.0/8,localhost,127.0.0.1,::1,10.1.2.3");
  assert.equal(NO_PROXY, no_proxy);
  assert.equal(launchEnv({ model: "m", env: { no_proxy: "mine" } }).no_proxy, "mine");
});

Deno.test("a GPU server gets the variables with which it survives a trainer that dies, unless they are set", () => {
  const env = launchEnv({ model: "m", gpus: [2, 3] });
  assert.equal(env.TORCH_NCCL_ASYNC_ERROR_HANDLING, "2");
  assert.equal(env.TORCH_NCCL_DUMP_ON_TIMEOUT, "0");
  assert.equal(env.TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC, "250");
  assert.equal(env.CUDA_VISIBLE_DEVICES, "2,3");
  const own = launchEnv({ model: "m", env: { TORCH_NCCL_ASYNC_ERROR_HANDLING: "1" } });
  assert.equal(own.TORCH_NCCL_ASYNC_ERROR_HANDLING, "1");
  assert.equal("CUDA_VISIBLE_DEVICES" in own, false, "inherited when no GPUs are named");
});

Deno.test("an option that does not exist is refused with the nearest that does", () => {
  const options = { model: "m", tpsize: 2 } as SGLangServerOptions;
  assert.throws(() => checkServerOptions(options), {
    name: "ValidationError",
    message: /^Unknown option "tpsize" of a server; did you mean "tpSize"\?/,
  });
});

Deno.test("a key that no client could send is refused before anything starts, and not shown", () => {
  for (const name of ["apiKey", "adminApiKey"]) {
    for (const key of ["ключ", "a key", "key\n", "k\u00e9y"]) {
      assert.throws(
        () => checkServerOptions({ model: "m", [name]: key }),
        (error: Error) =>
          error instanceof ValidationError && error.message.includes(name) &&
          !error.message.includes(key),
      );
    }
  }
});

Deno.test("sizes, ports and GPUs that cannot be are refused before anything starts", () => {
  const refused: [Partial<SGLangServerOptions>, RegExp][] = [
    [{ model: "" }, /`model` must be a folder or a Hugging Face name/],
    [{ tpSize: 0 }, /`tpSize` must be a whole number from 1, not 0/],
    [{ baseGpuId: -1 }, /`baseGpuId` must be a whole number from 0, not -1/],
    [{ port: 60_000 }, /`port` must be at most 55535/],
    [{ ncclPort: 1.5 }, /`ncclPort` must be a whole number/],
    [{ gpus: [0], device: "cpu" }, /exclude each other/],
    [{ gpus: [0], env: { CUDA_VISIBLE_DEVICES: "1" } }, /give one/],
    [{ gpus: [0], tpSize: 2 }, /needs 2 GPUs, `gpus` has 1/],
    [{ gpus: [0, 1], tpSize: 2, baseGpuId: 1 }, /needs 3 GPUs/],
  ];
  for (const [options, message] of refused) {
    assert.throws(() => checkServerOptions({ model: "m", ...options }), message);
  }
  checkServerOptions({ model: "m", gpus: [0, 1], tpSize: 2 });
});
