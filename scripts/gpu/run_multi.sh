#!/bin/bash
# Runs tests/gpu/multi_test.ts, survival_test.ts and fleets_test.ts on one host with two or more
# NVIDIA GPUs: rank 0 in Deno on GPU 0, real SGLang servers on the others. With three GPUs one 0.5B server spans two of them
# (tp 2), with four such a one is beside another on a card of its own.
#
# Parts for two GPUs: rates q05b q7b learning python first finite release gaps kill isolation
#                     deterministic fp8 fp8blocks trainer adapters delta
#       for three:     also ipc, moe, shared (which may leave servers frozen: last)
#
#   bash scripts/gpu/run_multi.sh
#
# The machine needs no internet: .dev/ brings what it lacks, as for run.sh. The ranks of a host are
# to find each other over NVLink or P2P, so NCCL_HOSTID must not be set. NVLink multicast stays off:
# SGLang's processes have it off unless told otherwise, rank 0 must agree, and on a machine that
# shares its GPUs' host with others it can harm them.
#
# Variables: PARTS    which parts to run, in order (default: all)
#            OUT      where results.jsonl and the logs go (default .dev/gpu-results)
#            WORK     scratch folder (default /tmp/sglang-rl-gpu-multi); 17 GB, in memory when root
#            GPU_PYTHON, GPU_NCCL, GPU_CUDART, GPU_CUDA: the Python and libraries to use
#            GPU_SERVER_PORT  first of 1200 ports for the servers (default 21200)
#            GROW_GIB memory to touch at the start (default 0), on a machine whose memory grows slowly
#            SERVERS_7B  how many 7B servers (default one on each GPU but the first; they hold 20 GB each)
#            LIMIT_S  seconds for everything (default 410)
# Each part has its own time limit, so that one failure does not lose the rest. Exits with the number
# of parts that failed.
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${OUT:-$PWD/.dev/gpu-results} work=${WORK:-/tmp/sglang-rl-gpu-multi} limit=${LIMIT_S:-410}
parts=${PARTS:-rates q05b q7b learning python first gaps deterministic fp8 kill isolation ipc moe}
# Below the ports that Linux gives to connections (from 32768): a connection took a server's once.
port=${GPU_SERVER_PORT:-21200} shards=8
logs=$work/logs site=$work/site models=$work/models
GPU_PYTHON=${GPU_PYTHON:-python3}
mkdir -p "$out" "$logs" "$site" "$models"
export GPU_PYTHON GPU_RESULTS=$out/results.jsonl GPU_MODELS=$models
export NCCL_NVLS_ENABLE=0 NCCL_CUMEM_ENABLE=0 TORCH_SYMM_MEM_DISABLE_MULTICAST=1 NVSHMEM_DISABLE_NVLS=1
export NCCL_DEBUG=INFO NCCL_DEBUG_FILE=$logs/nccl-%p.log NO_COLOR=1 DENO_NO_UPDATE_CHECK=1
unset NCCL_HOSTID PYTHONDONTWRITEBYTECODE
. scripts/gpu/machine.sh
: >"$GPU_RESULTS"
tell() { echo "$1" | tee -a "$GPU_RESULTS"; }
gpus=$(nvidia-smi -L | grep -c ^GPU)
((gpus >= 2)) || { say "two GPUs are needed, $gpus found"; exit 99; }

wants() { # wants PART...: whether one of them is to be run
  local part
  for part; do [[ " $parts " == *" $part "* ]] && return; done
  return 1
}

# Better now than while something is timed.
grow_memory() {
  timeout 40 "$GPU_PYTHON" -c \
    "import numpy; numpy.empty(${GROW_GIB:-0} << 30, numpy.uint8)[::4096] = 1"
}
# Builds the one kernel that the bundle lacks for the 7B shapes (rows of 1024 bytes in the KV store).
build_kernel() {
  wants q7b isolation trainer || return 0
  CUDA_VISIBLE_DEVICES=1 PYTHONPATH=$site TVM_FFI_CACHE_DIR=$site/jit_cache timeout 150 \
    "$GPU_PYTHON" -W ignore -c \
    'from sglang.jit_kernel import kvcache; print(kvcache.can_use_store_cache(1024))'
}
grow_memory &
growing=$!
{ unpack_site && say "site unpacked" && build_kernel && say "kernel built"; } >"$logs/site.log" 2>&1 &
unpacking=$!
unpack_deno
find_libraries
mount -t tmpfs -o size=40g tmpfs "$models" 2>/dev/null && in_memory=true || in_memory=false
tell "$(timeout 60 "$GPU_PYTHON" -W ignore tests/gpu/support/multi_machine.py | grep '^{')"
"$deno" --version | head -1
wait "$growing"
say "machine ready, $(awk '/MemTotal/ {print int($2 / 2^20)}' /proc/meminfo) GiB; models in memory: $in_memory"

failed=0
# run_part NAME MOST_SECONDS COMMAND...
run_part() {
  local part=$1 most=$2 left=$((limit - SECONDS - 8)) status
  shift 2
  if ((left < 10)); then
    say "$part: not started, LIMIT_S is reached"
    failed=$((failed + 1))
    return
  fi
  ((most < left)) || most=$left
  say "$part, at most $most s"
  timeout -k 5 "$most" "$@" >"$logs/$part.log" 2>&1
  status=$?
  tell "{\"name\":\"part.$part\",\"value\":{\"exit\":$status,\"endedAtS\":$SECONDS}}"
  ((status == 0)) && return
  failed=$((failed + 1))
  grep -v '^RESULT' "$logs/$part.log" | tail -n "${TAIL:-30}" | cut -c1-400
}
run_tests() { # run_tests PART MOST_SECONDS FILTER
  run_part "$1" "$2" "$deno" test -A --no-check --cached-only --filter "$3" tests/gpu/multi_test.ts
}

# Alone on the machine's GPUs, before any server is there.
[[ " $parts " == *" rates "* ]] && run_tests rates 100 "/^rates:/"

make_models() {
  local making=() version shard
  for version in a b; do
    "$GPU_PYTHON" scripts/gpu/make_model.py "$models/q05b-$version" q05b \
      $([ $version = a ] && echo 1 || echo 2) &
    making+=($!)
  done
  for ((shard = 0; shard < shards; shard++)); do
    wants q7b isolation trainer || break
    "$GPU_PYTHON" tests/gpu/support/multi_model.py "$models/q7b-a" $shard $shards &
    making+=($!)
  done
  for version in a b; do
    wants moe || break
    "$GPU_PYTHON" tests/gpu/support/moe_model.py "$models/moe-$version" $([ $version = a ] && echo 1 || echo 2) \
      scripts/gpu/model &
    making+=($!)
  done
  wait "${making[@]}"
  making=()
  for version in a b; do
    wants fp8blocks || break
    CUDA_VISIBLE_DEVICES= "$GPU_PYTHON" tests/gpu/support/fp8_model.py "$models/q05b-$version" \
      "$models/q05b-fp8-$version" &
    making+=($!)
  done
  [ -z "${making[*]}" ] || wait "${making[@]}"
  say "models made, $(du -sBG "$models" | cut -f1)"
}
servers=()
# start_server NAME PORT DEVICES FLAGS...: in a process group of its own
start_server() {
  local name=$1 at=$2 devices=$3
  shift 3
  CUDA_VISIBLE_DEVICES=$devices PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH} \
    TVM_FFI_CACHE_DIR=$site/jit_cache HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 PYTHONUNBUFFERED=1 \
    TORCH_NCCL_ASYNC_ERROR_HANDLING=2 TORCH_NCCL_DUMP_ON_TIMEOUT=0 \
    TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC=250 \
    setsid "$GPU_PYTHON" -m sglang.launch_server --host 127.0.0.1 --port "$at" \
    --nccl-port $((at + 7)) --attention-backend triton --sampling-backend pytorch \
    --grammar-backend none --mem-fraction-static "${FRACTION:-0.5}" --max-total-tokens 20000 \
    --max-running-requests 32 --disable-cuda-graph "$@" >"$logs/$name.log" 2>&1 &
  servers+=($!)
  disown
}

wait "$unpacking"
cat "$logs/site.log" | tail -4
"$GPU_PYTHON" tests/gpu/support/multi_model.py "$models/q7b-a" config $shards
mkdir -p "$models/q05b-a"
make_models >"$logs/models.log" 2>&1 &
making=$!
last=$((gpus - 1)) several=$((gpus >= 3 ? gpus : 0))
GPU_FLEET_Q05B= GPU_FLEET_Q7B=
# The 7B servers begin with random weights of their own, the first update brings the checkpoint's.
if wants q7b isolation trainer; then
  for ((server = 1; server <= ${SERVERS_7B:-gpus - 1}; server++)); do
    gpu=$((1 + (server - 1) % (gpus - 1)))
    start_server "q7b-$server" $((port + 1000 + 40 * server)) $gpu --model-path "$models/q7b-a" --load-format dummy
    GPU_FLEET_Q7B+=" http://127.0.0.1:$((port + 1000 + 40 * server))"
  done
fi
wait "$making"
tail -2 "$logs/models.log"
small=(--model-path "$models/q05b-a")
address() { echo "http://127.0.0.1:$1"; }
FRACTION=0.6
GPU_HEALTHY= GPU_VICTIMS= GPU_IPC=
for ((gpu = 1; gpu < (gpus > 3 ? 3 : gpus); gpu++)); do
  start_server "q05b-$gpu" $((port + 40 * gpu)) $gpu "${small[@]}"
  GPU_HEALTHY+=" $(address $((port + 40 * gpu)))"
done
# Tensor parallelism on cards of its own, beside a server on another where there are enough.
case $gpus in
  2) GPU_FLEET_Q05B=$(address $((port + 40))) ;;
  3) GPU_FLEET_Q05B="$(address "$port")*2" ;;
  *) GPU_FLEET_Q05B="$(address $((port + 40))) $(address "$port")*2" ;;
esac
if ((gpus >= 3)) && wants q05b trainer; then
  start_server q05b-tp2 "$port" $((last - 1)),$last "${small[@]}" --tp 2 --disable-custom-all-reduce
fi
if wants kill; then
  # On two GPUs all servers share one: what becomes of the others shows there too, and no rate does.
  if ((gpus == 2)); then
    start_server q05b-other $((port + 120)) 1 "${small[@]}"
    GPU_HEALTHY+=" $(address $((port + 120)))"
  fi
  for victim in 1 2 3; do
    start_server "victim-$victim" $((port + 200 + 40 * victim)) $last "${small[@]}"
    GPU_VICTIMS+=" $(address $((port + 200 + 40 * victim)))@${servers[-1]}"
  done
fi
if wants shared; then
  GPU_SHARING=${GPU_HEALTHY# }
  start_server sharing $((port + 160)) 1 "${small[@]}"
  GPU_SHARING="${GPU_SHARING%% *} $(address $((port + 160)))"
fi
wants kill shared && start_server twin $((port + 400)) 0 "${small[@]}"
if ((several)) && wants ipc; then
  for base in 1 2; do
    start_server "ipc-$base" $((port + 440 + 40 * base)) "$(seq -s, 0 $last)" "${small[@]}" --base-gpu-id $base
    GPU_IPC+=" $(address $((port + 440 + 40 * base)))"
  done
fi
if ((several)) && wants moe; then
  # Others share its cards, of which SGLang would complain that they are unevenly used.
  SGLANG_ENABLE_TP_MEMORY_INBALANCE_CHECK=false \
    start_server moe $((port + 600)) 1,2 --model-path "$models/moe-a" --tp 2 --dp 2 --enable-dp-attention \
    --ep 2 --disable-custom-all-reduce
fi
wants deterministic && start_server deterministic $((port + 700)) 1 "${small[@]}" --enable-deterministic-inference
# On each GPU but the first one that takes adapters, and one that takes whole weights beside it.
GPU_LORA= GPU_PLAIN=$GPU_HEALTHY
if wants adapters; then
  for ((gpu = 1; gpu < gpus; gpu++)); do
    start_server "lora-$gpu" $((port + 780 + 20 * gpu)) $gpu "${small[@]}" --enable-lora --max-lora-rank 16 \
      --max-loaded-loras 6 --max-loras-per-batch 4 \
      --lora-target-modules q_proj k_proj v_proj o_proj gate_proj up_proj down_proj
    GPU_LORA+=" $(address $((port + 780 + 20 * gpu)))"
  done
  for ((gpu = 3; gpu < gpus; gpu++)); do
    start_server "plain-$gpu" $((port + 880 + 20 * gpu)) $gpu "${small[@]}"
    GPU_PLAIN+=" $(address $((port + 880 + 20 * gpu)))"
  done
fi
wants fp8blocks && start_server fp8blocks $((port + 960)) 1 --model-path "$models/q05b-fp8-a"
wants fp8 && start_server fp8 $((port + 740)) 1 "${small[@]}" --quantization fp8
export GPU_FLEET_Q05B GPU_FLEET_Q7B=${GPU_FLEET_Q7B# } GPU_HEALTHY=${GPU_HEALTHY# }
export GPU_VICTIMS GPU_IPC GPU_TWIN=$(address $((port + 400))) GPU_MOE=$(address $((port + 600)))
export GPU_SHARING=${GPU_SHARING:-} GPU_LORA=${GPU_LORA# } GPU_PLAIN=${GPU_PLAIN# }
export GPU_FP8_BLOCKS=$(address $((port + 960)))
export GPU_DETERMINISTIC=$(address $((port + 700))) GPU_FP8=$(address $((port + 740)))

for part in $parts; do
  case $part in
    rates) ;;
    q05b) run_tests q05b 130 "/^q05b:/" ;;
    q7b) run_tests q7b 220 "/^q7b:/" ;;
    learning)
      GPU_SERVER=${GPU_FLEET_Q05B%% *} run_part learning 60 "$deno" test -A --no-check --cached-only \
        tests/gpu/learning_test.ts
      ;;
    # The same updates of one 0.5B server by a Python rank 0, which waits for no server by itself.
    python)
      for _ in {1..120}; do
        curl -sf -o /dev/null "${GPU_FLEET_Q05B%% *}/health" && break
        sleep 1
      done
      PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH} run_part python 45 "$GPU_PYTHON" -B -W ignore \
        tests/gpu/support/python_rank0.py "${GPU_FLEET_Q05B%% *}" "$models" no-ipc
      grep '^{"name"' "$logs/python.log" | tee -a "$GPU_RESULTS"
      ;;
    # A torch trainer that hands over its device memory, FSDP2, and torch alone.
    trainer)
      PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH} run_part trainer "${MOST:-300}" "$deno" test -A \
        --no-check --cached-only tests/gpu/trainer_test.ts
      ;;
    fp8blocks)
      run_part fp8blocks "${MOST:-120}" "$deno" test -A --no-check --cached-only tests/gpu/quantised_test.ts
      ;;
    # A delta beside the whole file on this host; no server.
    delta)
      TMPDIR=$models run_part delta "${MOST:-120}" "$deno" run -A --no-check --cached-only bench/delta.ts 256
      sed 's/^/delta: /' "$logs/delta.log"
      ;;
    # A LoRA adapter beside the full sync, and a PEFT model's by the link.
    adapters)
      run_part adapters "${MOST:-120}" "$deno" test -A --no-check --cached-only tests/gpu/adapters_test.ts
      ;;
    kill | gaps | first | finite | release | shared | isolation)
      run_part "$part" "${MOST:-240}" "$deno" test -A --no-check --cached-only --filter "/^$part:/" \
        tests/gpu/survival_test.ts
      ;;
    moe | ipc | deterministic | fp8)
      name=$([ "$part" = fp8 ] && echo refused || echo "$part")
      run_part "$part" "${MOST:-240}" "$deno" test -A --no-check --cached-only --filter "/^$name:/" \
        tests/gpu/fleets_test.ts
      ;;
    *) say "there is no part $part" && failed=$((failed + 1)) ;;
  esac
done

# How the ranks reached each other, as NCCL tells it.
via=$(cat "$logs"/nccl-*.log 2>/dev/null | grep -o 'via [A-Za-z0-9/]*' | sort | uniq -c |
  awk '{printf "%s\"%s\":%d", sep, $3, $1; sep = ","}')
tell "{\"name\":\"multi.channels\",\"value\":{$via}}"
for server in "${servers[@]}"; do kill -KILL -- "-$server" 2>/dev/null; done
tar -czf "$out/logs.tgz" -C "$work" logs
[ "$in_memory" = false ] || umount -l "$models"
say "$failed parts failed"
exit "$failed"
