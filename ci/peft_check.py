#!/usr/bin/env python3
"""What Oribi exports, read by its consumers: PEFT reads the adapter, transformers the merged model. Their logits against Oribi's.

    oribi trace  --model DIR --adapter ADAPTER --batch B.json --out T.safetensors    (input_ids and labels)
    oribi export --model DIR --adapter ADAPTER --format adapter --output A
    oribi export --model DIR --adapter ADAPTER --format merged --output M
    ci/peft_check.py DIR A M B.json T.safetensors

Needs torch, transformers, peft and safetensors. Exit code 1 if a logit differs by more than 1e-4 in fp32.
"""
import json
import sys

import torch
import transformers
import peft
from safetensors.torch import load_file

base, adapter, merged, batch, trace = sys.argv[1:6]
ids = torch.tensor(json.load(open(batch))["input_ids"])
ours = load_file(trace)["logits"].float()
print("torch", torch.__version__, "transformers", transformers.__version__, "peft", peft.__version__)

def logits(model):
    with torch.no_grad():
        return model.float().eval()(ids).logits

def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")

worst = 0.0
for name, model in (("peft", peft.PeftModel.from_pretrained(load(base), adapter)), ("merged", load(merged))):
    theirs = logits(model)
    difference = (theirs - ours).abs().max().item()
    worst = max(worst, difference)
    print(f"{name}: logits of size up to {ours.abs().max().item():.2f} differ by at most {difference:.3g}")
tokenizer = transformers.AutoTokenizer.from_pretrained(merged)
print("chat:", repr(tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True)))
sys.exit(0 if worst <= 1e-4 else 1)
