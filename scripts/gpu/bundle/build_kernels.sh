#!/bin/bash
# Builds, on a machine without a GPU, the kernels that the server would else compile at first use on
# the GPU machine: .dev/kernels/jit (sglang's own, for sm_90a) and .dev/kernels/aot (flashinfer's
# norms). Needs a Python environment with the GPU machine's torch, and a folder as build.sh makes it
# with flashinfer's data/ unpacked into it. The steps were run one by one, not the script as a whole.
# usage: build_kernels.sh VENV SITE [WORKDIR]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "$here/../../.." && pwd)/.dev/kernels
venv=$1 site=$2 work=${3:-${TMPDIR:-/tmp}/sglang-rl-kernels}
mkdir -p "$work/fake"
"$venv/bin/pip" install -q 'nvidia-cuda-nvcc==13.0.*' 'nvidia-cuda-cccl==13.0.*' \
  'nvidia-cuda-crt==13.0.*' 'nvidia-nvvm==13.0.*'
# Stands in for the driver while importing and linking.
gcc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$work/fake/libcuda.so.1" "$here/fake-libcuda.c"
cuda=$("$venv/bin/python" -c 'import nvidia.cu13 as c; print(list(c.__path__)[0])')
[ -e "$cuda/lib64" ] || ln -s lib "$cuda/lib64"
[ -e "$cuda/lib/libcudart.so" ] || ln -s libcudart.so.13 "$cuda/lib/libcudart.so"
[ -e "$cuda/lib/libcuda.so" ] || ln -s "$work/fake/libcuda.so.1" "$cuda/lib/libcuda.so"
# Without a GPU sgl_kernel asks for sm100.
[ -e "$site/sgl_kernel/sm100" ] || ln -s sm90 "$site/sgl_kernel/sm100"
export PATH=$cuda/bin:$venv/bin:$PATH CUDA_HOME=$cuda LD_LIBRARY_PATH=$work/fake
export PYTHONPATH=$here:$site TVM_FFI_CACHE_DIR=$work/jit FLASHINFER_CUDA_ARCH_LIST=9.0a
export FLASHINFER_WORKSPACE_BASE=$work/flashinfer
"$venv/bin/python" -W ignore "$here/prejit.py"
"$venv/bin/python" -W ignore "$here/prefi.py"
rm -rf "$out"
mkdir -p "$out/jit" "$out/aot/norm"
for folder in "$work"/jit/*; do
  mkdir -p "$out/jit/$(basename "$folder")"
  cp "$folder"/*.so "$out/jit/$(basename "$folder")/"
done
cp "$work/flashinfer/.cache/flashinfer/0.6.14/90a/cached_ops/norm/norm.so" "$out/aot/norm/"
strip --strip-unneeded "$out/aot/norm/norm.so"
[ ! -L "$site/sgl_kernel/sm100" ] || rm "$site/sgl_kernel/sm100"
