"""Writes the goldens of QLoRA: tiny random Llamas in NF4 and what Hugging Face computes with them.

Run where torch, transformers and peft are at hand; a processor is enough:

    python3 make_goldens.py goldens

Each case is a folder with `model/` (a checkpoint as bitsandbytes stores it, NF4 with double quantization), of one case also
`plain/` (the checkpoint in bfloat16 from which it was made), `adapter/` (a PEFT adapter whose B is not zero), `batch.json`, and `float32.safetensors` and `bfloat16.safetensors`: logits, loss and
gradients of the adapter under the names of `oribi trace`, by transformers and PEFT on the dequantized weights, in float32
and in bfloat16.

NF4 is written out here, in the arithmetic of bitsandbytes, so that the goldens do not depend on a GPU library; where
bitsandbytes is installed the script also checks itself against it.
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

BLOCK, NESTED_BLOCK = 64, 256

NF4 = torch.tensor([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0])

# A value goes to the code above a threshold only if it is larger than the threshold.
THRESHOLDS = torch.tensor([
    -0.8480964004993439, -0.6106329262256622, -0.4599952697753906, -0.33967943489551544, -0.23460740596055984,
    -0.13791173323988914, -0.045525018125772476, 0.03979014977812767, 0.1202552504837513, 0.2035212516784668,
    0.2920137718319893, 0.3893125355243683, 0.5016634166240692, 0.6427869200706482, 0.8614784181118011])

BASE = dict(max_position_embeddings=128, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, vocab_size=67)

# Every linear layer adapted; gate_proj has 384 blocks of 64, one and a half blocks of blocks.
# Then: a tied head, layers that stay 16-bit, a rank for which there is no fused kernel.
CASES = {
    "all-linear": (
        dict(hidden_size=128, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             tie_word_embeddings=False),
        dict(r=8, lora_alpha=16, target_modules="all-linear"),
        None),
    "skips-tied": (
        dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
             tie_word_embeddings=True),
        dict(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj", "down_proj"]),
        ["lm_head", "model.layers.0.mlp", "model.layers.1.self_attn.k_proj"]),
}


def dynamic_map():
    """The 256 values of bitsandbytes' signed dynamic 8-bit type."""
    values = [0.0, 1.0]
    for i in range(7):
        bounds = torch.linspace(0.1, 1, 2 ** i + 1)
        for mean in ((bounds[:-1] + bounds[1:]) / 2 * 10.0 ** (i - 6)).tolist():
            values += [mean, -mean]
    return torch.tensor(sorted(values))


def quantize(w):
    """The parts of a matrix in NF4 with double quantization, by the names of bitsandbytes."""
    blocks = w.float().reshape(-1, BLOCK)
    absmax = blocks.abs().amax(1)
    index = torch.bucketize(blocks * (1 / absmax)[:, None], THRESHOLDS).to(torch.uint8).reshape(-1, 2)
    offset = absmax.mean()
    rest = absmax - offset
    padded = torch.nn.functional.pad(rest, (0, -len(rest) % NESTED_BLOCK)).reshape(-1, NESTED_BLOCK)
    nested = padded.abs().amax(1)
    code = dynamic_map()
    middle = (code[:-1] + code[1:]) / 2
    codes = torch.bucketize(padded * (1 / nested)[:, None], middle).to(torch.uint8).reshape(-1)[:len(rest)]
    return {
        "weight": (index[:, 0] << 4 | index[:, 1]).reshape(-1, 1).contiguous(),
        "weight.absmax": codes.contiguous(),
        "weight.quant_map": NF4,
        "weight.nested_absmax": nested.contiguous(),
        "weight.nested_quant_map": code,
        "offset": offset.item(),
    }


def dequantize(q, shape):
    code = q["weight.nested_quant_map"]
    nested = q["weight.nested_absmax"].repeat_interleave(NESTED_BLOCK)[:len(q["weight.absmax"])]
    absmax = code[q["weight.absmax"].long()] * nested + torch.tensor(q["offset"])
    byte = q["weight"].reshape(-1)
    index = torch.stack([byte >> 4, byte & 15], 1).reshape(-1, BLOCK).long()
    return (NF4[index] * absmax[:, None]).reshape(shape)


def state(q, shape):
    text = json.dumps({
        "quant_type": "nf4", "blocksize": BLOCK, "dtype": "bfloat16", "shape": list(shape),
        "nested_blocksize": NESTED_BLOCK, "nested_dtype": "float32", "nested_offset": q["offset"]})
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def plain(module, skips):
    """Whether transformers leaves a linear layer as it is."""
    return any(module.startswith(skip) or module.endswith(skip) for skip in skips or ["lm_head"])


def quantize_model(model, skips):
    """Puts the dequantized weights into the model; returns the tensors of the checkpoint."""
    tensors = {}
    linear = {name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    for name, p in model.named_parameters():
        module = name.removesuffix(".weight")
        if module in linear and not plain(module, skips):
            q = quantize(p.data)
            for part, tensor in q.items():
                if part != "offset":
                    tensors[module + "." + part] = tensor.clone()
            tensors[module + ".weight.quant_state.bitsandbytes__nf4"] = state(q, p.shape)
            check_against_bitsandbytes(name, p.data, q)
            p.data.copy_(dequantize(q, p.shape))
        else:
            tensors[name] = p.data.bfloat16().contiguous().clone()
    return tensors


def check_against_bitsandbytes(name, w, q):
    try:
        import bitsandbytes.functional as bnb
    except ImportError:
        return
    packed, s = bnb.quantize_4bit(w, blocksize=BLOCK, compress_statistics=True, quant_type="nf4")
    print(name, "bitsandbytes: codes that differ", int((packed.reshape(-1) != q["weight"].reshape(-1)).sum()),
          "absmax that differ", int((s.absmax != q["weight.absmax"]).sum()),
          "largest difference of a weight",
          float((bnb.dequantize_4bit(packed, s).float() - dequantize(q, w.shape)).abs().max()))


def batch(vocabulary, generator):
    ids = torch.randint(3, vocabulary, (2, 40), generator=generator)
    labels = ids.clone()
    labels[0, :9] = -100
    labels[1, 20:25] = -100
    labels[1, 39] = -100
    return ids, labels


def trace(model, ids, labels):
    model.eval()
    model.zero_grad()
    result = model(input_ids=ids, labels=labels)
    result.loss.backward()
    out = {"logits": result.logits.detach().float().contiguous(), "loss": result.loss.detach().float().reshape(1)}
    for name, p in model.named_parameters():
        if p.requires_grad:
            out["grad." + name.replace(".default.", ".")] = p.grad.detach().float().contiguous().clone()
    return out


def quantization(skips):
    return {
        "_load_in_4bit": True, "_load_in_8bit": False, "bnb_4bit_compute_dtype": "bfloat16",
        "bnb_4bit_quant_storage": "uint8", "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
        "llm_int8_enable_fp32_cpu_offload": False, "llm_int8_has_fp16_weight": False, "llm_int8_skip_modules": skips,
        "llm_int8_threshold": 6.0, "load_in_4bit": True, "load_in_8bit": False, "quant_method": "bitsandbytes"}


def write_model(folder, model, tensors, quantization_config):
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(folder)
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["dtype"] = "bfloat16"
    if quantization_config:
        config["quantization_config"] = quantization_config
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def write(folder, numbers, lora, skips, seed):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**{**BASE, **numbers})).float()
    with torch.no_grad():
        for name, p in model.named_parameters():
            w = torch.randn(p.shape, generator=generator)
            p.copy_((1 + 0.2 * w if p.dim() == 1 else 0.1 * w).bfloat16())  # what the checkpoint can hold
    if skips:
        plain = {name: p.data.bfloat16().contiguous() for name, p in model.named_parameters()}
        write_model(folder / "plain", model, plain, None)
    write_model(folder / "model", model, quantize_model(model, skips), quantization(skips))
    ids, labels = batch(model.config.vocab_size, generator)
    (folder / "batch.json").write_text(json.dumps({"input_ids": ids.tolist(), "labels": labels.tolist()}))

    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora))
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if p.requires_grad:
                p.copy_(p + 0.1 * torch.randn(p.shape, generator=generator))
    adapted.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    save_file(trace(adapted, ids, labels), folder / "float32.safetensors")
    for name, p in adapted.named_parameters():
        if not p.requires_grad:
            p.data = p.data.bfloat16()  # the adapter stays in float32, as PEFT keeps it
    half = trace(adapted, ids, labels)
    save_file(half, folder / "bfloat16.safetensors")


def main():
    root = Path(sys.argv[1])
    for seed, (name, (numbers, lora, skips)) in enumerate(CASES.items()):
        write(root / name, numbers, lora, skips, 20 + seed)
        print(name)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    (root / "versions.json").write_text(json.dumps(versions, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
