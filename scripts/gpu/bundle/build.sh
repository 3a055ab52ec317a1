#!/bin/bash
# Builds .dev/deno_dir.tar.xz, the npm packages that the GPU tests load, as Deno's cache, and
# .dev/site.tar.xz: the real sglang 0.5.16 as a folder for PYTHONPATH, for a GPU machine without
# internet that has Python 3.12 with torch 2.11.0+cu130 (about 33 MB; 3 to 5 minutes, x86-64, internet).
# Nothing in sglang is changed. Left out: what the tests do not load (FA3, Blackwell, multimodal).
# Kernels built ahead (build_kernels.sh) are taken from .dev/kernels when they are there; without them
# the GPU machine compiles each at first use, which takes about a minute each and needs nvcc and g++.
# usage: build.sh [OUTDIR] [WORKDIR]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
out=${1:-$root/.dev} work=${2:-${TMPDIR:-/tmp}/sglang-rl-bundle} python=${PYTHON:-python3}
mkdir -p "$out" "$work/wheels/dependencies"

rm -rf "$work/deno_dir"
# The tests and the programs that they start; lazily, else every package of deno.json comes along.
(cd "$root" && DENO_DIR=$work/deno_dir DENO_UNSTABLE_NPM_LAZY_CACHING=1 \
  deno cache -q tests/gpu/*_test.ts tests/gpu/support/*.ts examples/evolution_strategies.ts)
tar --sort=name --owner=0 --group=0 --numeric-owner -C "$work/deno_dir" -c npm |
  xz -9e -T1 -c >"$out/deno_dir.tar.xz"

platforms=()
for tag in 2_39 2_34 2_31 2_28 2_27 2_26 2_24 2_17 2_12 2_5; do
  platforms+=(--platform "manylinux_${tag}_x86_64")
done
for tag in 2014 2010 1; do platforms+=(--platform "manylinux${tag}_x86_64"); done
download() {
  "$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: \
    --python-version 3.12 --implementation cp --abi cp312 --abi abi3 --abi none "${platforms[@]}" "$@"
}
for package in sglang==0.5.16 sglang-kernel==0.4.5 flashinfer-python==0.6.14; do
  name=${package%%==*}
  compgen -G "$work/wheels/${name//-/_}-*.whl" >/dev/null || download -d "$work/wheels" "$package"
done
[ -e "$work/wheels/dependencies/.done" ] || {
  download -d "$work/wheels/dependencies" -r "$here/wheels.txt"
  touch "$work/wheels/dependencies/.done"
}

rm -rf "$work/site"
mkdir "$work/site"
cd "$work/site"
unzip -q ../wheels/sglang-0.5.16-*.whl -x 'sglang/multimodal_gen/*' 'sglang/srt/grpc/_core*'
unzip -q ../wheels/sglang_kernel-0.4.5-*.whl \
  -x 'sgl_kernel/flash_ops*' 'sgl_kernel/sm100/*' 'sgl_kernel/infllm_ops*' 'sgl_kernel/flashmla_ops*'
unzip -q ../wheels/flashinfer_python-0.6.14-*.whl -x 'flashinfer/data/*'
for wheel in ../wheels/dependencies/*.whl; do
  unzip -q -o "$wheel" -x xgrammar/lib/libxgrammar.a 2>/dev/null || [ $? -eq 11 ]
done
for data in *.data; do
  [ -d "$data" ] || continue
  for part in platlib purelib; do [ -d "$data/$part" ] && cp -r "$data/$part/." .; done
  rm -rf "$data"
done
cp -r "$here/stubs/." .
find . -name '*.so*' -type f -exec strip --strip-unneeded {} \; 2>/dev/null || true
rm -f torch_memory_saver_hook_mode_*_cu12* build_backend.py build_utils.py
find . -name __pycache__ -prune -exec rm -rf {} +
find . -name '*.pyi' -delete
if [ -d "$root/.dev/kernels" ]; then
  mkdir -p jit_cache flashinfer/data/aot
  cp -r "$root/.dev/kernels/jit/." jit_cache/
  cp -r "$root/.dev/kernels/aot/." flashinfer/data/aot/
fi
cd ..
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=2026-01-01 -C site -cf site.tar .
xz -9e -T1 -f -c site.tar >"$out/site.tar.xz.part"
mv "$out/site.tar.xz.part" "$out/site.tar.xz"
ls -la "$out/site.tar.xz"
