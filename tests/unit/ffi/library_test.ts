import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { type LibraryError, PermissionError } from "../../../src/errors.ts";
import { libraryCandidates, openLibrary, sitePackagesOf } from "../../../ffi/library.ts";

Deno.test("an explicit path is the only place that is tried", () => {
  const candidates = libraryCandidates("nccl", {
    nccl: "/a/libnccl.so.2",
    python: "/venv",
    environment: () => "/b/libnccl.so.2",
  });
  deepEqual(candidates, [{ path: "/a/libnccl.so.2", origin: "option libraries.nccl" }]);
});

Deno.test("the environment variable comes before any search", () => {
  const environment = (name: string) => name === "SGLANG_RL_CUDART" ? "/c/libcudart.so" : undefined;
  deepEqual(libraryCandidates("cudart", { python: "/venv", environment }), [
    { path: "/c/libcudart.so", origin: "variable SGLANG_RL_CUDART" },
  ]);
});

Deno.test("a Python is given by its executable, its environment or its packages", () => {
  const packages = "/venv/lib/python3.12/site-packages";
  equal(sitePackagesOf("/venv/bin/python3.12")[0], packages);
  equal(sitePackagesOf("/venv/")[0], packages);
  deepEqual(sitePackagesOf(`${packages}/`), [packages]);
});

Deno.test("the wheels of CUDA 13 and 12 come before the system's folders", () => {
  const paths = libraryCandidates("cudart", { python: "/v/lib/python3.12/site-packages" })
    .map(({ path }) => path);
  const place = (path: string) => paths.indexOf(path);
  const packages = "/v/lib/python3.12/site-packages/nvidia";
  equal(place(`${packages}/cu13/lib/libcudart.so.13`), 0);
  ok(place(`${packages}/cuda_runtime/lib/libcudart.so.12`) > 0);
  ok(
    place("/usr/local/cuda/lib64/libcudart.so.13") >
      place(`${packages}/cuda_runtime/lib/libcudart.so.12`),
  );
});

Deno.test("a library that Deno may not open gives the exact flag", () => {
  const nccl = new URL(import.meta.url).pathname;
  throws(() => openLibrary("nccl", {}, { nccl }), (error: PermissionError) => {
    ok(error instanceof PermissionError);
    equal(error.flag, `--allow-ffi=${nccl}`);
    ok(error.message.includes(`  ${nccl}: permission refused`), error.message);
    ok(error.message.endsWith(`run again with ${error.flag}`), error.message);
    return true;
  });
});

Deno.test("a library that is nowhere lists every place and what to do", () => {
  const python = "/nowhere/lib/python3.12/site-packages";
  throws(() => openLibrary("cudart", {}, { python }), (error: LibraryError) => {
    const expected = libraryCandidates("cudart", { python });
    deepEqual(error.tried.map(({ path }) => path), expected.map(({ path }) => path));
    for (const { path } of expected) ok(error.message.includes(`  ${path}: `), path);
    match(error.message, /SGLANG_RL_CUDART/);
    match(error.message, /--allow-ffi=/);
    return true;
  });
});
