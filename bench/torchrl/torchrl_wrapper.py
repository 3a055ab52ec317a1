"""Runs TorchRL's SGLangWrapper on the prompts on standard input; prints its outputs as JSON.

usage: torchrl_wrapper.py URL TOKENIZER_FOLDER MODE < request.json
The request is {"prompts": [...], "max_new_tokens": N, "runs": N}; a prompt is a list of messages
(history), a text, or a list of ids (tokens).
"""
import json
import logging
import sys
import time
import warnings

warnings.filterwarnings("ignore")
import torch
from tensordict import TensorDict, set_list_to_stack
from transformers import PreTrainedTokenizerFast

set_list_to_stack(True).set()
from torchrl.data.llm import History
from torchrl.modules.llm.backends.sglang import AsyncSGLang
from torchrl.modules.llm.policies import ChatHistory, SGLangWrapper, Text, Tokens

logging.disable(logging.WARNING)


def make_input(mode, prompts):
    size = (len(prompts),)
    if mode == "history":
        return TensorDict(history=ChatHistory(prompt=History.from_chats(prompts)), batch_size=size)
    if mode == "text":
        return TensorDict(text=Text(prompt=prompts), batch_size=size)
    return TensorDict(tokens=Tokens(prompt=torch.tensor(prompts)), batch_size=size)


def rows(container, key):
    if key not in container._tensordict.keys():
        return None
    values = container.get(key, as_list=True)
    if isinstance(values, torch.Tensor):
        return values.tolist()
    return [v.tolist() if isinstance(v, torch.Tensor) else v for v in values]


def main():
    url, folder, mode = sys.argv[1:4]
    request = json.load(sys.stdin)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    wrapper = SGLangWrapper(
        AsyncSGLang.connect(url),
        tokenizer=tokenizer,
        input_mode=mode,
        generate_kwargs={"max_new_tokens": request["max_new_tokens"], "temperature": 0.0},
    )
    seconds = []
    for _ in range(request["runs"]):
        data = make_input(mode, request["prompts"])
        start = time.perf_counter()
        out = wrapper(data)
        seconds.append(time.perf_counter() - start)
    result = {"seconds": seconds}
    for name, keys in {
        "text": ["prompt", "response", "full"],
        "tokens": ["prompt", "response", "full"],
        "masks": ["all_attention_mask", "all_assistant_mask"],
        "log_probs": ["response", "full"],
    }.items():
        container = out.get(name, None)
        for key in keys:
            if container is not None and rows(container, key) is not None:
                result[f"{name}.{key}"] = rows(container, key)
    if out.get("history", None) is not None:
        for key in ("response", "full"):
            history = getattr(out["history"], key)
            result[f"history.{key}"] = [
                [[m.role, m.content] for m in history[i].unbind(0)] for i in range(history.shape[0])
            ]
    print(json.dumps(result))


main()
