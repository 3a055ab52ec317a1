#!/bin/bash
# Runs tests/gpu on a machine with an NVIDIA GPU, Python 3.10+ with torch, and this repository.
#
#   bash scripts/gpu/run.sh
#
# The machine needs no internet: put what it lacks into .dev/ before (docs/native.md):
#   .dev/deno.xz       the Deno binary, when the machine has none
#   .dev/deno_dir.tar.xz  the npm packages, as Deno's cache (scripts/gpu/bundle/build.sh)
#   .dev/site.tar.xz   SGLang for Python 3.12 (scripts/gpu/bundle/build.sh), when its Python has none
#
# Variables: PARTS    which parts to run, in order (default: all)
#            OUT      where results.jsonl and the logs go (default .dev/gpu-results)
#            WORK     scratch folder (default /tmp/sglang-rl-gpu)
#            GPU_PYTHON, GPU_NCCL, GPU_CUDART, GPU_CUDA: the Python and libraries to use
#            LIMIT_S  seconds for everything (default 1800)
# Each part has its own time limit, so that one failure does not lose the rest. Exits with the number
# of parts that failed.
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${OUT:-$PWD/.dev/gpu-results} work=${WORK:-/tmp/sglang-rl-gpu} limit=${LIMIT_S:-1800}
parts=${PARTS:-kernels broadcast collectives permissions faults \
  server scheme ipc learning python death managed rates leaks}
port=${GPU_SERVER_PORT:-34100}
logs=$work/logs site=$work/site models=$work/models
mkdir -p "$out" "$logs" "$site" "$models"
export GPU_RESULTS=$out/results.jsonl GPU_MODELS=$models GPU_SITE=$site GPU_SERVER=http://127.0.0.1:$port
export GPU_PYTHON=${GPU_PYTHON:-python3} NCCL_HOSTID=trainer NCCL_DEBUG=${NCCL_DEBUG:-WARN}
export NO_COLOR=1 DENO_NO_UPDATE_CHECK=1
unset PYTHONDONTWRITEBYTECODE
: >"$GPU_RESULTS"
. scripts/gpu/machine.sh

unpack_site &
unpacking=$!
for version in a b; do
  [ -e "$models/q05b-$version/model.safetensors" ] ||
    "$GPU_PYTHON" scripts/gpu/make_model.py "$models/q05b-$version" q05b \
      $([ $version = a ] && echo 1 || echo 2) &
  making="${making:-} $!"
done
unpack_deno
find_libraries
"$GPU_PYTHON" - >"$work/machine.json" <<'PYTHON'
import json, os, platform, subprocess, torch
gpu = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], capture_output=True, text=True).stdout.strip()
print(json.dumps({"name": "machine", "value": {"gpu": gpu, "cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version(), "torch": torch.__version__, "nccl": torch.cuda.nccl.version(), "GPU_NCCL": os.environ["GPU_NCCL"], "GPU_CUDART": os.environ["GPU_CUDART"], "GPU_CUDA": os.environ["GPU_CUDA"]}}))
PYTHON
tee -a "$GPU_RESULTS" <"$work/machine.json"
"$deno" --version | head -1

wait "$unpacking" ${making:-}
say "prepared"
server=
needs_server=" "'(server|scheme|ipc|learning|python|death)'" "
if [[ " $parts " =~ $needs_server ]]; then
  PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH} NCCL_HOSTID=server TVM_FFI_CACHE_DIR=$site/jit_cache \
    HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 PYTHONUNBUFFERED=1 \
    TORCH_NCCL_ASYNC_ERROR_HANDLING=2 TORCH_NCCL_DUMP_ON_TIMEOUT=0 \
    TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC=250 \
    setsid "$GPU_PYTHON" -m sglang.launch_server --model-path "$models/q05b-a" --host 127.0.0.1 \
    --port "$port" --nccl-port $((port + 7)) --attention-backend triton --sampling-backend pytorch \
    --grammar-backend none --mem-fraction-static 0.5 --max-total-tokens 20000 \
    --max-running-requests 32 --disable-cuda-graph --sleep-on-idle >"$logs/sglang.log" 2>&1 &
  server=$!
fi

declare -A seconds=([kernels]=60 [broadcast]=90 [collectives]=60 [permissions]=40 [faults]=90
  [server]=150 [scheme]=150 [ipc]=70 [learning]=100 [python]=110 [death]=60 [managed]=130 [rates]=110
  [leaks]=180)
end_server() {
  [ -z "$server" ] || kill -KILL -- "-$server" 2>/dev/null
  server=
}
failed=0 later=" $parts "
for part in $parts; do
  # A part that measures the device's memory must not see a server that nobody needs any more.
  [[ "$later" =~ $needs_server ]] || end_server
  later="${later/ $part / }"
  left=$((limit - SECONDS - 10))
  if ((left < 10)); then
    say "$part: not started, LIMIT_S is reached"
    failed=$((failed + 1))
    continue
  fi
  most=$((left < seconds[$part] ? left : seconds[$part]))
  say "$part, at most $most s"
  if [ "$part" = python ]; then
    PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH} timeout -k 5 "$most" "$GPU_PYTHON" -B -W ignore \
      tests/gpu/support/python_rank0.py "$GPU_SERVER" "$models" >"$logs/$part.log" 2>&1
    status=$?
    grep '^{"name"' "$logs/$part.log" | tee -a "$GPU_RESULTS"
  else
    timeout -k 5 "$most" "$deno" test -A --no-check --cached-only \
      "tests/gpu/${part}_test.ts" >"$logs/$part.log" 2>&1
    status=$?
  fi
  echo "{\"name\":\"part.$part\",\"value\":{\"exit\":$status,\"endedAtS\":$SECONDS}}" |
    tee -a "$GPU_RESULTS"
  ((status == 0)) || { failed=$((failed + 1)) && tail -n "${TAIL:-40}" "$logs/$part.log" | cut -c1-400; }
done
end_server
tar -czf "$out/logs.tgz" -C "$work" logs
say "$failed parts failed"
exit "$failed"
