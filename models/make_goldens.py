"""Writes the goldens of every family: tiny random checkpoints and what Hugging Face computes with them.

Run where torch, transformers and peft are at hand; a processor is enough:

    python3 make_goldens.py            # every family
    python3 make_goldens.py qwen2      # one, or several

Reads `FAMILY/cases.json` and writes `FAMILY/goldens/CASE/` beside it:

    model/                 the checkpoint, weights in bfloat16, config.json in the form of transformers 5 or, if the case
                           says so, with the keys of the folder that was published
    adapter/               a PEFT adapter whose B is not zero
    batch.json             token ids and labels, some masked
    adapter.safetensors    logits, loss and the gradients of the adapter in float32, under the names of `oribi trace`
    full.safetensors       the same of all weights, where the case asks for it
    bfloat16.json          the relative error that transformers and PEFT make on each of these in bfloat16

Experts are computed, adapted and named one by one, as published checkpoints and adapters name them; transformers 5 keeps
them in one tensor. A case fails if a switch that it is there for (`without`) makes no difference, if the folder does not
give the same logits when it is read again, or if single experts do not compute what transformers' fused ones do.
"""
import json
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from golden_parts import batch, not_v5, published_config, relative, router_choices, single_experts

HERE = Path(__file__).parent

# What float32 may differ between two orders of the same sum; and what a switch has to change at least, ten times the
# tolerance of the tests.
SAME = 1e-6
DIFFERENT = 1e-4


def new_model(model_type, numbers, seed):
    """A model with random weights that bfloat16 can hold; norms and biases are not what they start as."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    config = AutoConfig.for_model(model_type, **numbers)
    config._experts_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float()
    tensors = dict(model.named_parameters())
    tensors |= {n: b for n, b in model.named_buffers() if n.endswith("e_score_correction_bias")}
    with torch.no_grad():
        for name, p in tensors.items():
            noise = torch.randn(p.shape, generator=generator)
            if p.dim() == 1:
                start = 1.0 if p.numel() and bool((p == 1).all()) else 0.0
                value = start + (0.1 if name.endswith("bias") else 0.25) * noise
            else:
                value = (0.4 if name.endswith("mlp.gate.weight") else 0.15) * noise
            p.copy_(value.bfloat16())
    return model, generator


def save(model, folder, case):
    """Writes the checkpoint in bfloat16; buffers, V3's correction bias, stay in float32 as in the published files."""
    parameters = {n: p.data for n, p in model.named_parameters()}
    for p in model.parameters():
        p.data = p.data.bfloat16()
    model.config.dtype = torch.bfloat16
    model.save_pretrained(folder, **case.get("save", {}))
    for n, p in model.named_parameters():
        p.data = parameters[n]
    (folder / "generation_config.json").unlink(missing_ok=True)
    add_ignored(folder / "model.safetensors", case.get("ignored", {}))
    file = folder / "config.json"
    config = json.loads(file.read_text())
    if "published" in case:
        config = published_config(config, case["published"], case.get("absent", []))
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def add_ignored(file, shapes):
    """Adds tensors that a published folder has and that training does not read: V3's layer for multi-token prediction."""
    if not shapes:
        return
    tensors = load_file(file)
    tensors.update({n: torch.full(shape, 0.5, dtype=torch.bfloat16) for n, shape in shapes.items()})
    save_file(tensors, file, metadata={"format": "pt"})


def load(folder, dtype=torch.float32, **changes):
    """The model of a folder, with `changes` in its config.json."""
    with tempfile.TemporaryDirectory() as temp:
        copy = Path(temp) / "model"
        shutil.copytree(folder, copy)
        config = not_v5(json.loads((copy / "config.json").read_text()))
        config.update(changes)
        (copy / "config.json").write_text(json.dumps(config))
        model = AutoModelForCausalLM.from_pretrained(
            copy, dtype=dtype, attn_implementation="eager", experts_implementation="eager")
        model.name_or_path = None  # PEFT would write the path of the copy
        return model


def logits(model, ids):
    model.eval()
    with torch.no_grad():
        return model(input_ids=ids).logits.float()


def trace(model, ids, labels, name_of):
    model.eval()
    model.zero_grad()
    result = model(input_ids=ids, labels=labels)
    result.loss.backward()
    out = {"logits": result.logits.detach().float().contiguous(), "loss": result.loss.detach().float().reshape(1)}
    for name, p in model.named_parameters():
        if p.requires_grad:
            gradient = torch.zeros_like(p) if p.grad is None else p.grad.detach()
            out["grad." + name_of(name)] = gradient.float().contiguous().clone()
    return out


def peft_name(name):
    return name.replace(".default.", ".").replace(".modules_to_save.", ".").replace(".default", "")


def check_switches(folder, case, ids, exact):
    for changes in case.get("without", []):
        other = logits(load(folder, **changes), ids)
        difference = relative(other, exact)
        assert difference > DIFFERENT, f"with {changes} the logits differ by only {difference:.2g}"


def adapted_model(base, case, generator, singles):
    lora = LoraConfig(task_type="CAUSAL_LM", **case["lora"])
    with singles.peft():
        adapted = get_peft_model(base, lora)
        with torch.no_grad():
            for _, p in adapted.named_parameters():
                if p.requires_grad:
                    p.copy_(p + 0.1 * torch.randn(p.shape, generator=generator))
    return adapted


class Unsure(Exception):
    """The router chooses other experts after rounding or noise. A gradient of a token that another expert gets has nothing
    to do with the golden, so such weights are no use."""


def check_router(model, ids, case):
    """Raises Unsure unless noise in every layer's output leaves the choice of experts as it is."""
    if "router" not in case:
        return
    exact = router_choices(model, ids, 0)
    if not all(torch.equal(exact, router_choices(model, ids, level)) for level in case["router"]["noise"]):
        raise Unsure


def check_same_experts(half, exact, ids, case):
    if "router" in case and not torch.equal(router_choices(half, ids, 0), router_choices(exact, ids, 0)):
        raise Unsure


def write(folder, family, case, seed):
    """Tries seeds until the router is sure; without a router the first one is taken."""
    for attempt in range(2000):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            return write_with(folder, family, case, seed + 10000 * attempt)
        except Unsure:
            continue
    raise AssertionError("no seed whose router is sure")


def write_with(folder, family, case, seed):
    numbers = {**family["config"], **case.get("config", {})}
    model, generator = new_model(family["model_type"], numbers, seed)
    ids, labels = batch(model.config.vocab_size, generator, case)
    check_router(model, ids, case)
    exact = logits(model, ids)
    save(model, folder / "model", case)
    again = load(folder / "model")
    assert relative(logits(again, ids), exact) == 0, "the folder gives other logits when it is read again"
    (folder / "batch.json").write_text(json.dumps({"input_ids": ids.tolist(), "labels": labels.tolist()}))

    singles = single_experts(None if case.get("fused_adapter") else again)
    assert relative(logits(again, ids), exact) < SAME, "single experts compute something else"
    results = {}
    if case.get("full"):
        results["full"] = trace(again, ids, labels, singles.name)
    adapted = adapted_model(again, case, generator, singles)
    check_router(adapted, ids, case)
    with singles.peft():
        adapted.save_pretrained(folder / "adapter")
    singles.tidy_adapter(folder / "adapter")
    results["adapter"] = trace(adapted, ids, labels, lambda n: singles.name(peft_name(n)))
    for name, tensors in results.items():
        save_file(tensors, folder / f"{name}.safetensors")
    half = in_bfloat16(folder, adapted, ids, labels, results, singles, case)
    (folder / "bfloat16.json").write_text(json.dumps(half, indent=1) + "\n")
    check_switches(folder / "model", case, ids, exact)
    return half


def in_bfloat16(folder, adapted, ids, labels, results, singles, case):
    errors = {}
    base = load(folder / "model", torch.bfloat16)
    check_same_experts(base, load(folder / "model"), ids, case)
    if not case.get("fused_adapter"):
        single_experts(base)
    if "full" in results:
        found = trace(base, ids, labels, singles.name)
        errors["full"] = {n: relative(t, results["full"][n]) for n, t in found.items()}
    with singles.peft():
        half = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **case["lora"]))
    values = dict(adapted.named_parameters())
    with torch.no_grad():
        for name, p in half.named_parameters():
            if p.requires_grad:
                p.copy_(values[name])
    check_same_experts(half, adapted, ids, case)
    found = trace(half, ids, labels, lambda n: singles.name(peft_name(n)))
    errors["adapter"] = {n: relative(t, results["adapter"][n]) for n, t in found.items()}
    return errors


def size(folder):
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def main():
    transformers.utils.logging.disable_progress_bar()
    names = sys.argv[1:] or sorted(f.parent.name for f in HERE.glob("*/cases.json"))
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    failed = []
    for name in names:
        family = json.loads((HERE / name / "cases.json").read_text())
        root = HERE / name / "goldens"
        for seed, (case_name, case) in enumerate(family["cases"].items()):
            folder = root / case_name
            try:
                half = write(folder, family, case, family["seed"] + seed)
                worst = max(half["adapter"].values())
                print(f"{name}/{case_name}: {size(folder)} bytes, bfloat16 logits {half['adapter']['logits']:.2g}, "
                      f"worst {worst:.2g}", flush=True)
            except Exception:
                failed.append(f"{name}/{case_name}")
                shutil.rmtree(folder, ignore_errors=True)
                print(f"{name}/{case_name} FAILED\n{traceback.format_exc()}", flush=True)
        text = json.dumps(versions, indent=2) + "\n"
        (root / ("versions.json" if name != "llama" else "versions-cases.json")).write_text(text)
    if failed:
        sys.exit("failed: " + " ".join(failed))


if __name__ == "__main__":
    main()
