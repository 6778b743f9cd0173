"""Writes the goldens of the Llama family: tiny random checkpoints and what Hugging Face computes with them.

Run where torch, transformers and peft are at hand:

    python3 make_goldens.py goldens

Each case is a folder with `model/` (a checkpoint), `adapter/` (a PEFT adapter whose B is not zero), `batch.json`, and
`adapter.safetensors` and `full.safetensors`: logits, loss and gradients in float32, under the names of `oribi trace`.
"""
import json
import sys
from pathlib import Path

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

BASE = dict(
    vocab_size=67, hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def rope(kind, **more):
    return dict(rope_type=kind, rope_theta=10000.0, **more)


CASES = {
    "llama1": (
        dict(num_key_value_heads=4, tie_word_embeddings=False, rms_norm_eps=1e-6),
        dict(r=4, lora_alpha=8, target_modules=ALL)),
    "llama2-grouped-tied": (
        dict(tie_word_embeddings=True),
        dict(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj"])),
    "llama3.1-factor-8": (
        dict(tie_word_embeddings=False, num_key_value_heads=1,
             rope_parameters=dict(rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                       original_max_position_embeddings=16), rope_theta=500000.0)),
        dict(r=8, lora_alpha=16, target_modules="all-linear", use_rslora=True)),
    "llama3.2-factor-32-tied": (
        dict(tie_word_embeddings=True,
             rope_parameters=dict(rope("llama3", factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                       original_max_position_embeddings=16), rope_theta=500000.0)),
        dict(r=2, lora_alpha=4, target_modules=r".*layers\.1\..*(q_proj|down_proj)")),
    "linear-rope-own-head-dim-shards": (
        dict(head_dim=12, tie_word_embeddings=False, rope_parameters=rope("linear", factor=4.0)),
        dict(r=4, lora_alpha=8, target_modules=ALL, rank_pattern={"down_proj": 6}, alpha_pattern={"q_proj": 3})),
    "gelu-modules-to-save": (
        dict(hidden_act="gelu_pytorch_tanh", tie_word_embeddings=False),
        dict(r=4, lora_alpha=4, target_modules=["o_proj", "gate_proj"], modules_to_save=["embed_tokens", "lm_head"])),
}


def batch(vocabulary, generator):
    ids = torch.randint(3, vocabulary, (2, 40), generator=generator)
    labels = ids.clone()
    labels[0, :9] = -100
    labels[1, 20:25] = -100
    labels[1, 39] = -100
    return ids, labels


def trace(model, ids, labels, name_of):
    model.eval()
    model.zero_grad()
    result = model(input_ids=ids, labels=labels)
    result.loss.backward()
    out = {"logits": result.logits.detach().float().contiguous(), "loss": result.loss.detach().float().reshape(1)}
    for name, p in model.named_parameters():
        if p.requires_grad and p.grad is not None:
            out["grad." + name_of(name)] = p.grad.detach().float().contiguous().clone()
    return out


def peft_name(name):
    return name.replace(".default.", ".").replace(".modules_to_save.", ".").replace(".default", "")


def write(folder, numbers, lora, seed):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**{**BASE, **numbers})).float()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(1 + 0.2 * torch.randn(p.shape, generator=generator) if p.dim() == 1
                    else 0.15 * torch.randn(p.shape, generator=generator))
    shards = dict(max_shard_size="40KB") if "shards" in folder.name else {}
    model.save_pretrained(folder / "model", **shards)
    ids, labels = batch(model.config.vocab_size, generator)
    (folder / "batch.json").write_text(json.dumps({"input_ids": ids.tolist(), "labels": labels.tolist()}))
    save_file(trace(model, ids, labels, lambda n: n), folder / "full.safetensors")
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora))
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if p.requires_grad:
                p.copy_(p + 0.1 * torch.randn(p.shape, generator=generator))
    adapted.save_pretrained(folder / "adapter")
    save_file(trace(adapted, ids, labels, peft_name), folder / "adapter.safetensors")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)


def main():
    root = Path(sys.argv[1])
    torch.set_default_dtype(torch.float32)
    for seed, (name, (numbers, lora)) in enumerate(CASES.items()):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        write(folder, numbers, lora, seed)
        print(name)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    (root / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


main()
