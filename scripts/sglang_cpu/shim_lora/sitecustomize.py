"""Lets SGLang's LoRA and mixture-of-experts code run where there is no CUDA driver.

It pins host memory and asks for CUDA's run time even on a CPU; here both are left out. Python runs
this file at its start when its folder is in PYTHONPATH.
"""

import os

if os.environ.get("SGLANG_RL_NO_PIN"):
    import torch

    def without_pin(make):
        def made(*args, **options):
            options.pop("pin_memory", None)
            return make(*args, **options)

        return made

    for name in ("tensor", "empty", "zeros", "ones", "full", "arange", "empty_like"):
        setattr(torch, name, without_pin(getattr(torch, name)))
    torch.Tensor.pin_memory = lambda self, *args, **options: self

    class NoCudaRuntime:
        def __getattr__(self, name):
            return lambda *args, **options: 0

    torch.cuda.cudart = lambda: NoCudaRuntime()
