#!/usr/bin/env bash
# Installs TorchRL 0.14.1 in an environment of its own and prints that environment's Python.
# The packages that it shares with the installed SGLang (torch, transformers) are not copied.
set -euo pipefail

cache="${XDG_CACHE_HOME:-$HOME/.cache}/sglang-rl"
sglang="${SGLANG_CPU_HOME:-$cache/sglang-cpu}/venv"
venv="$cache/torchrl/venv"

if [ ! -x "$sglang/bin/python" ]; then
  echo "There is no SGLang in $sglang: run 'deno task setup:sglang' first" >&2
  exit 1
fi
if ! "$venv/bin/python" -c "import torchrl" 2>/dev/null; then
  rm -rf "$venv"
  "$sglang/bin/python" -m venv "$venv" >&2
  packages="$("$sglang/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
  here="$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
  echo "$packages" > "$here/sglang-packages.pth"
  "$venv/bin/pip" install --quiet --no-deps \
    torchrl==0.14.1 tensordict==0.14.3 pyvers==0.2.3 cloudpickle==3.1.2 >&2
fi
echo "$venv/bin/python"
