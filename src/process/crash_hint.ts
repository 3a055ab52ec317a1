/** What users can do about the crashes that are seen most. The first that fits is given. */
const hints: readonly (readonly [RegExp, string])[] = [
  [
    /No module named '?sglang_router'?/,
    "That Python has no sglang-router: install it there, or name the Python that has it with `python` or $SGLANG_ROUTER_PYTHON",
  ],
  [
    /No module named '?sglang/,
    "That Python has no SGLang: install it there, or name the Python that has it with `python` or $SGLANG_PYTHON",
  ],
  [
    /No module named '?sgl_kernel/,
    "That Python has no sgl_kernel; on a CPU `deno task setup:sglang` makes an installation that works",
  ],
  [
    /unrecognized arguments: ([^\n]*)/,
    "This version does not know one of the flags: check `args` and the version's `--help`",
  ],
  [
    /address already in use|Address already in use|EADDRINUSE|port \d+ is not available/,
    "A port is taken: leave `port` and other ports out, so that free ones are chosen",
  ],
  [
    /CUDA out of memory|torch\.OutOfMemoryError|Not enough memory/,
    "The memory does not suffice: lower `memFractionStatic`, or stop what else runs on the GPU",
  ],
  [
    /No CUDA GPUs are available|Found no NVIDIA driver|no NVIDIA driver|No accelerator/,
    'There is no GPU to use: check `gpus` and the driver, or use `device: "cpu"`',
  ],
  [
    /is not a local folder|not a valid model identifier|Repo id must be in the form|does not appear to have a file named|Repository Not Found|LocalEntryNotFoundError|offline mode/,
    "The model was not found: `model` must be a folder with a checkpoint, or a Hugging Face name that can be loaded",
  ],
];

/** What to do about a crash with this log, when that is known. */
export function crashHint(log: string): string | undefined {
  return hints.find(([pattern]) => pattern.test(log))?.[1];
}
