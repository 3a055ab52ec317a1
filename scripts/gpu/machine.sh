# Functions with which a script of this folder prepares a GPU machine; to be sourced, from the
# repository's root, after `work`, `site` and GPU_PYTHON are set.

say() { echo "[$SECONDS s] $*"; }

# The real SGLang from .dev/site.tar.xz, for PYTHONPATH.
unpack_site() {
  [ -e .dev/site.tar.xz ] && [ ! -e "$site/.done" ] || return 0
  xz -dc .dev/site.tar.xz | tar -x -C "$site" &&
    "$GPU_PYTHON" -m compileall -q -j 16 "$site" >/dev/null
  touch "$site/.done"
}

# Sets `deno`: the one on PATH, or the one in .dev/deno.xz; and DENO_DIR to .dev/deno_dir.tar.xz.
unpack_deno() {
  deno=$(command -v deno || true)
  if [ -z "$deno" ]; then
    deno=$work/deno
    [ -x "$deno" ] || { xz -dc .dev/deno.xz >"$deno" && chmod +x "$deno"; }
  fi
  [ -e .dev/deno_dir.tar.xz ] || return 0
  # The cache has what the GPU tests load, and not the other packages of deno.json.
  export DENO_DIR=$work/deno_dir DENO_UNSTABLE_NPM_LAZY_CACHING=1
  mkdir -p "$DENO_DIR" && xz -dc .dev/deno_dir.tar.xz | tar -x -C "$DENO_DIR"
}

# Sets GPU_NCCL, GPU_CUDART and GPU_CUDA unless they are set.
find_libraries() {
  export GPU_NCCL=${GPU_NCCL:-$(_package_folder nvidia.nccl)/lib/libnccl.so.2}
  if [ -z "${GPU_CUDART:-}" ]; then
    GPU_CUDART=$(_first "$(_package_folder nvidia.cu13)"/lib/libcudart.so.13 \
      "$(_package_folder nvidia.cuda_runtime)"/lib/libcudart.so.12 \
      /usr/local/cuda/lib64/libcudart.so.1[23])
  fi
  if [ -z "${GPU_CUDA:-}" ]; then
    GPU_CUDA=$(ldconfig -p | sed -n 's/.*libcuda\.so\.1 .*x86-64.* => //p' | head -1)
    [ -n "$GPU_CUDA" ] || GPU_CUDA=$(_first /usr/lib/*-linux-gnu/libcuda.so.1 \
      /usr/lib64/libcuda.so.1 /usr/local/nvidia/lib64/libcuda.so.1)
  fi
  export GPU_CUDART GPU_CUDA
}

_package_folder() {
  "$GPU_PYTHON" -c "import $1; print(list($1.__path__)[0])" 2>/dev/null
}

_first() { for path in "$@"; do [ -e "$path" ] && echo "$path" && return; done; }
