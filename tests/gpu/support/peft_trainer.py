"""A PEFT model on a GPU that pushes its adapter again and again: peft_trainer.py ADDRESS FOLDER SAVE PUSHES

Each push is another adapter; the last one is saved to SAVE before. Prints a line of JSON for each.
"""

import json
import os
import sys

import torch
from peft import LoraConfig, get_peft_model
from sglang_rl.trainer import WeightLink
from transformers import AutoModelForCausalLM

address, folder, save, pushes = sys.argv[1:5]
torch.manual_seed(7)
base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to("cuda")
modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
model = get_peft_model(base, LoraConfig(r=16, lora_alpha=32, target_modules=modules, task_type="CAUSAL_LM"))


def change():
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "lora_B" in name:
                tensor.uniform_(-0.5, 0.5)


with WeightLink(address, name="peft", connect_timeout=60, timeout=60) as link:
    for number in range(int(pushes)):
        change()
        if number == int(pushes) - 1:
            model.save_pretrained(save)
        report = link.push_adapter(model, "peft")
        told = {"version": report.version, "seconds": report.seconds, "syncMs": report.sync_ms, "way": link.way}
        print(json.dumps(told), flush=True)
os._exit(0)
