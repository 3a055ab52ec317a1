import type { Step } from "./step.ts";

const dead = "http://127.0.0.1:9";

/** Beside a `serve` of two servers with the router: what docs/cli.md tells of each command. */
export const besideFleet: readonly Step[] = [
  { run: "sglang-rl --version", out: /^\d+\.\d+\.\d+\n$/ },
  { run: "sglang-rl --help | head -n 1", out: /^Usage: sglang-rl/ },
  { run: 'sglang-rl status -r "$ROUTER"', out: /ready +healthy/ },
  { run: 'sglang-rl status -s "$A" -s "$B" --json', out: /"health":"ready".*\n.*"health":"ready"/ },
  { run: 'sglang-rl status -s "$A,$B"', columns: 20, out: /cache hit %/ },
  { run: 'sglang-rl status -s "$A,$B"', columns: 60, out: /cache hit %/ },
  { run: 'sglang-rl status -s "$A" --watch --interval 0.2 --json | head -n 2', out: /ready/ },
  { run: 'sglang-rl status -s "$A" --watch', code: 130, when: /ready/, signal: "SIGINT" },
  { run: 'sglang-rl status -s "$A" --watch', code: 143, when: /ready/, signal: "SIGTERM" },
  { run: 'sglang-rl status -s "$A" --watch', code: 129, when: /ready/, signal: "SIGHUP" },
  { run: 'sglang-rl generate -s "$A,$B" "Hello" "World" -m 8', out: /> Hello\n[^]*> World\n/ },
  { run: 'sglang-rl generate -r "$ROUTER" "Hello" --temperature 0 -m 8', out: /8 tokens, length/ },
  {
    run: 'sglang-rl generate -s "$A" --file prompts.txt -n 4 -m 8 --json > samples.jsonl && ' +
      "wc -l < samples.jsonl && head -n 1 samples.jsonl",
    out: /^8\n\{"prompt"/,
  },
  { run: 'sglang-rl generate -s "$A" --stream "Once upon a time" -m 8', out: /\n$/ },
  {
    run: 'sglang-rl generate -s "$A" -m 4 -- "--not=an option" "ümlaut 日本"',
    out: /> ümlaut 日本/,
  },
  { run: 'sglang-rl metrics -s "$A"', out: /sglang_rl_server_ready\{server="[^"]+"\} 1\n/ },
  {
    run: 'sglang-rl metrics -r "$ROUTER" --listen 9476',
    when: /Metrics: /,
    meanwhile: "curl -sf http://127.0.0.1:9476/metrics | grep -c 'sglang_rl_server_up.* 1'",
    signal: "SIGINT",
    code: 130,
  },
  { run: 'sglang-rl pause -r "$ROUTER"', out: /: paused\n.*: paused\n/ },
  { run: 'sglang-rl status -s "$A"', code: 3, out: /paused/ },
  { run: 'sglang-rl resume -r "$ROUTER" --json', out: /"state":"resumed","error":null/ },
  { run: 'sglang-rl status -r "$ROUTER" --wait 30', out: /ready/ },
  {
    run: 'sglang-rl sync checkpoints/step-20 -r "$ROUTER" --dry-run',
    out: /would push .* step-20/,
  },
  {
    run: 'sglang-rl sync checkpoints/step-20 -s "$A" -s "$B"',
    out: /^version step-20: .* 2 server/,
  },
  { run: 'sglang-rl status -r "$ROUTER" --json', out: /"weight_version":"step-20"/ },
  { run: 'sglang-rl sync checkpoints --rollback -s "$A,$B" --json', out: /"version":"step-10/ },
  {
    run: 'sglang-rl sync checkpoints --rollback 5 -s "$A,$B"',
    code: 2,
    err: /0 whole checkpoint.*5 were asked for/,
  },
  {
    run: 'sglang-rl sync checkpoints -s "$A,$B" --watch --interval 0.2 --json',
    when: /"version":"step-20/,
    signal: "SIGINT",
    code: 130,
  },
  { run: 'sglang-rl drain "$B"', out: /: drained\n$/ },
  { run: 'sglang-rl status -r "$ROUTER"', out: /drained/ },
  { run: 'sglang-rl drain "$A"', code: 1, err: /last server that serves/ },
  { run: 'sglang-rl restart "$A"', code: 1, err: /give --force\n$/ },
  { run: 'sglang-rl restart "$B"', out: /restarted; it stays drained\n$/ },
  { run: 'sglang-rl drain "$B" --undo', out: /: comes back\n$/ },
  {
    run: 'until sglang-rl status -s "$B" | grep -E "healthy( |$)"; do sleep 1; done',
    out: /step-20/,
  },
  { run: 'sglang-rl restart "$ROUTER"', out: /restarted\n$/ },
  { run: 'sglang-rl status -r "$ROUTER" --wait 30', out: /ready +healthy/ },
  { run: "sglang-rl logs --lines 5", out: /==> .*\n[^]*==> .*\n[^]*==> / },
  { run: 'sglang-rl logs "$A" -n 2 | head -n 1', out: /./ },
  {
    run: 'sglang-rl logs "$A" --follow',
    when: /./,
    signal: "SIGINT",
    code: 130,
  },
  { run: "sglang-rl logs http://127.0.0.1:9", code: 2, err: /not of that fleet; these are/ },
  { run: 'sglang-rl doctor -r "$ROUTER"', out: /router .*sends requests to 2 server/ },
  { run: 'sglang-rl bench -s "$A" --prompts 4 --rounds 1 -m 4', out: /tokens\/s/ },
  {
    run: 'sglang-rl gateway -s "$A" --port 40476 --record rows.jsonl --json',
    when: /Gateway at/,
    meanwhile: "set -e; at=http://127.0.0.1:40476/sessions; session=$(curl -sf -X POST $at); " +
      'id=$(jq -r .id <<< "$session"); key="authorization: Bearer $(jq -r .key <<< "$session")"; ' +
      'curl -sf "$(jq -r .base_url <<< "$session")/completions" -H "$key" ' +
      '-H "content-type: application/json" ' +
      `-d '{"model":"policy","prompt":"Hello","max_tokens":4}'; ` +
      'curl -sf -X POST -H "$key" "$at/$id/end"',
    out: /"turns":1/,
    signal: "SIGINT",
    code: 130,
  },
  {
    run:
      "sglang-rl completion bash | bash -n && source <(sglang-rl completion bash) && complete -p sglang-rl",
  },
  {
    run:
      "sglang-rl launch --slurm /models/policy -n 4 --gpus-per-node 8 > f.sbatch && bash -n f.sbatch",
  },
  {
    run: "sglang-rl launch --kubernetes /models/policy -n 4 --models-claim models",
    out: /Deployment/,
  },
  {
    run: 'sglang-rl dashboard -r "$ROUTER" --listen 9477',
    when: /Dashboard: /,
    meanwhile: "curl -sf http://127.0.0.1:9477/ | grep -ci '<html'",
    signal: "SIGINT",
    code: 130,
  },
  { run: `sglang-rl status -s ${dead}`, code: 3, out: /unreachable/ },
  { run: `sglang-rl generate -s ${dead} Hello`, code: 3 },
  { run: `sglang-rl sync checkpoints/step-20 -s ${dead}`, code: 3 },
  { run: `sglang-rl sync /nowhere -s ${dead}`, code: 2, err: /\/nowhere does not exist/ },
  { run: `sglang-rl bench -r ${dead}`, code: 3, err: /No router answers/ },
  { run: `sglang-rl drain ${dead} --control ${dead}`, code: 3, err: /does "sglang-rl serve" run/ },
  { run: "sglang-rl generate Hello", code: 2, err: /--server URL/ },
  { run: "sglang-rl nonsense", code: 2 },
  { run: "sglang-rl-no-permissions status -s $A", code: 4, err: /--allow-net=/ },
  {
    run: 'sglang-rl serve checkpoints/step-10 --python "$PYTHON" --port "${A##*:}"',
    code: 1,
    err: /Port \d+ is taken/,
  },
];

/** Beside a server of the newest version with both keys, in SGLANG_API_KEY and SGLANG_ADMIN_API_KEY. */
export const besideKeys: readonly Step[] = [
  { run: 'sglang-rl status -s "$A"', out: /ready/ },
  { run: 'sglang-rl generate -s "$A" "Hello" -m 4', out: /4 tokens/ },
  { run: 'sglang-rl doctor -s "$A"', out: /takes the key of SGLANG_API_KEY/ },
  { run: 'sglang-rl doctor -s "$A" --api-key-env NOBODY', code: 1, out: /BROKEN .*wants a key/ },
  { run: 'sglang-rl generate -s "$A" Hello --api-key-env NOBODY', code: 1, err: /--api-key-env/ },
  { run: 'sglang-rl pause -s "$A"', out: /: paused\n/ },
  { run: 'sglang-rl status -s "$A"', code: 3, out: /paused/ },
  {
    run: 'sglang-rl sync checkpoints/step-20 -s "$A"',
    out: /version step-20/,
    err: /stays paused/,
  },
  { run: 'sglang-rl resume -s "$A"', out: /: resumed\n/ },
  { run: 'sglang-rl status -s "$A" --wait 30 --json', out: /"weight_version":"step-20"/ },
  { run: "sglang-rl logs --lines 3", out: /./ },
  { run: "sglang-rl logs --admin-key-env NOBODY --api-key-env NOBODY", code: 1, err: /401/ },
];
