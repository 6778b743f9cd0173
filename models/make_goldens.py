"""Writes the goldens of every family: tiny random checkpoints and what Hugging Face computes with them.

Run where torch, transformers and peft are at hand; a processor is enough:

    python3 make_goldens.py            # every family
    python3 make_goldens.py qwen2      # one, or several

Reads `FAMILY/cases.json` and writes `FAMILY/goldens/CASE/` beside it:

    model/                 the checkpoint, weights in bfloat16, config.json in the form of transformers 5 or, if the case
                           says so, with the keys of the folder that was published
    adapter/               a PEFT adapter whose B is not zero
    batch.json             token ids and labels, some masked
    more-batches.json      some more, for the comparison in bfloat16
    adapter.safetensors    logits, loss and the gradients of the adapter in float32, under the names of `oribi trace`
    full.safetensors       the same of all weights, where the case asks for it
    bfloat16.json          the relative error that transformers and PEFT make on each of these in bfloat16, the root of the
                           mean square over several batches; with experts, the margin of the router's choices

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

from golden_parts import labels_of, not_v5, published_config, random_ids, relative, single_experts
from golden_routing import Unsure, check_margin, margin, routers, sure_ids, worst

HERE = Path(__file__).parent

# What float32 may differ between two orders of the same sum; and what a switch has to change at least, ten times the
# tolerance of the tests.
SAME = 1e-6
DIFFERENT = 1e-4
# Of a small tensor the error of one batch in bfloat16 is a draw: it may be half or double the usual one. So transformers' is
# taken over so many batches, the golden's own among them, and Oribi's over the first few of them, which are written down.
BATCHES = 16
WRITTEN = 8


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


def write(folder, family, case, seed):
    """Tries seeds until the router is sure; without a router the first one is taken."""
    for attempt in range(40):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            return write_with(folder, family, case, seed + 10000 * attempt)
        except Unsure as e:
            print(f"{folder.parent.parent.name}/{folder.name}, seed {seed + 10000 * attempt}: {e}", flush=True)
    raise AssertionError("no seed whose router is sure")


def write_with(folder, family, case, seed):
    numbers = {**family["config"], **case.get("config", {})}
    model, generator = new_model(family["model_type"], numbers, seed)
    rows, length = case.get("batch", [2, 40])
    size = (model.config.vocab_size, rows, length, generator)
    sure = bool(routers(model))
    batches = [] if sure else [random_ids(*size)]
    save(model, folder / "model", case)
    adapted = load(folder / "model")
    singles = single_experts(None if case.get("fused_adapter") else adapted)
    adapted = adapted_model(adapted, case, generator, singles)
    base = load(folder / "model")
    if not case.get("fused_adapter"):
        single_experts(base)
    exact = {"full": base, "adapter": adapted} if case.get("full") else {"adapter": adapted}
    half = in_bfloat16(folder, adapted, singles, case)
    margins = {what: [] for what in exact if sure}
    while len(batches) < BATCHES:
        batches.append(sure_ids(exact.values(), [half[w] for w in exact], *size) if sure else random_ids(*size))
        for what, found in margins.items():
            found.append(check_margin(margin(exact[what], half[what], batches[-1])))
    ids = batches[0]
    check_folder(folder / "model", model, ids, case)

    errors = {"batches": BATCHES}
    if sure:
        errors["routing"] = {what: worst(found) for what, found in margins.items()}
    for what, m in exact.items():
        tensors, errors[what] = errors_of(m, half[what], batches, lambda n: singles.name(peft_name(n)))
        save_file(tensors, folder / f"{what}.safetensors")
    written = [{"input_ids": b.tolist(), "labels": labels_of(b).tolist()} for b in batches[:WRITTEN]]
    (folder / "batch.json").write_text(json.dumps(written[0]))
    (folder / "more-batches.json").write_text(json.dumps(written[1:]))
    (folder / "bfloat16.json").write_text(json.dumps(errors, indent=1) + "\n")
    with singles.peft():
        adapted.save_pretrained(folder / "adapter")
    singles.tidy_adapter(folder / "adapter")
    return errors


def check_folder(folder, model, ids, case):
    """The folder gives the logits of the model that it was written from, and so do single experts; its switches matter."""
    exact = logits(model, ids)
    again = load(folder)
    assert relative(logits(again, ids), exact) == 0, "the folder gives other logits when it is read again"
    if not case.get("fused_adapter"):
        single_experts(again)
    assert relative(logits(again, ids), exact) < SAME, "single experts compute something else"
    check_switches(folder, case, ids, exact)


def in_bfloat16(folder, adapted, singles, case):
    """The base and the adapted model in bfloat16, the adapter in float32 as PEFT has it."""
    models = {}
    for what in ("full", "adapter"):
        models[what] = load(folder / "model", torch.bfloat16)
        if not case.get("fused_adapter"):
            single_experts(models[what])
    with singles.peft():
        models["adapter"] = get_peft_model(models["adapter"], LoraConfig(task_type="CAUSAL_LM", **case["lora"]))
    values = dict(adapted.named_parameters())
    with torch.no_grad():
        for name, p in models["adapter"].named_parameters():
            if p.requires_grad:
                p.copy_(values[name])
    return models


def errors_of(exact, half, batches, name_of):
    """What the exact model computes of the first batch, and the root of the mean square of the relative errors of all."""
    first, squares = None, {}
    for ids in batches:
        expected, found = (trace(m, ids, labels_of(ids), name_of) for m in (exact, half))
        first = first or expected
        for name, t in found.items():
            squares[name] = squares.get(name, 0) + relative(t, expected[name]) ** 2
    errors = {n: (s / len(batches)) ** 0.5 for n, s in squares.items()}
    assert max(errors.values()) < 0.5, f"bfloat16 is of no use here: {max(errors, key=errors.get)}"
    return first, errors


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
                sure = "".join(f", {k} {v}" for k, v in half.get("routing", {}).items())
                print(f"{name}/{case_name}: {size(folder)} bytes, bfloat16 logits {half['adapter']['logits']:.2g}, "
                      f"worst {worst:.2g}{sure}", flush=True)
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
