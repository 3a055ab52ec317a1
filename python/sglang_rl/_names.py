"""Names of weights as checkpoints of Hugging Face have them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}


def huggingface_name(name: str) -> str | None:
    """The name that a checkpoint of Hugging Face has for a parameter of a wrapped module.

    Takes away what DDP, FSDP, torch.compile and activation checkpointing put into names, and what PEFT
    does; None for what no checkpoint has, such as the weights of an adapter.
    """
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    if any(part.startswith("lora_") or part == "modules_to_save" for part in parts):
        return None
    while parts[0] == "module" and len(parts) > 1:
        parts = parts[1:]
    if parts[:2] == ["base_model", "model"]:
        parts = [part for part in parts[2:] if part not in ("base_layer", "original_module")]
    return ".".join(parts)


def _named_tensors(weights: Any, rename: Callable[[str], str | None]) -> list[tuple[str, Any]]:
    if hasattr(weights, "state_dict"):
        weights = weights.state_dict()
    pairs = weights.items() if isinstance(weights, Mapping) else weights
    named: dict[str, Any] = {}
    for given, tensor in pairs:
        name = rename(given)
        if name is None:
            continue
        if not hasattr(tensor, "data_ptr") and not hasattr(tensor, "full_tensor"):
            raise ValueError(f'"{given}" is no tensor but {type(tensor).__name__}')
        if name in named:
            raise ValueError(f'two weights have the name "{name}"; give the link a rename')
        named[name] = tensor
    if not named:
        raise ValueError("there are no weights to push")
    return list(named.items())


def _adapter_of(model: Any) -> tuple[list[tuple[str, Any]], dict[str, Any]]:
    from peft import get_peft_model_state_dict

    active = model.active_adapter if isinstance(model.active_adapter, str) else "default"
    config = model.peft_config[active].to_dict()
    plain = json.loads(json.dumps(config, default=lambda value: sorted(value) if isinstance(value, set) else str(value)))
    return list(get_peft_model_state_dict(model, adapter_name=active).items()), plain
