#!/usr/bin/env python3
"""Makes what ci/peft_check.py compares: a small random model of a family with an adapter by PEFT whose B is not zero, and a batch.

    ci/peft_model.py CONFIG_FOLDER TOKENIZER_FOLDER OUT    config.json of a golden; writes OUT/model, OUT/adapter, OUT/b.json
    ci/peft_model.py models/qwen3/goldens/0.6b-tied-published/model models/tiny/model out

Needs torch, transformers and peft.
"""
import json
import shutil
import sys
from pathlib import Path

import torch
import transformers
import peft

config_folder, tokenizer, out = (Path(a) for a in sys.argv[1:4])
torch.manual_seed(1)
config = transformers.AutoConfig.from_pretrained(config_folder)
config.vocab_size = 2048  # that of the tiny model's tokenizer
config.pad_token_id, config.bos_token_id, config.eos_token_id = None, 1, 2
model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
with torch.no_grad():
    for parameter in model.parameters():
        middle = 0 if parameter.dim() > 1 or "gemma" in config.model_type else 1  # norms; Gemma's are 1 + w
        parameter.copy_((middle + 0.1 * torch.randn_like(parameter)).bfloat16().float())
model.save_pretrained(out / "model")
for file in tokenizer.glob("*token*"):
    shutil.copy(file, out / "model")
adapted = peft.get_peft_model(
    model, peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"))
adapted.save_pretrained(out / "adapter", save_embedding_layers=False)
ids = torch.randint(3, 2048, (2, 12)).tolist()
(out / "b.json").write_text(json.dumps({"input_ids": ids, "labels": ids}))
