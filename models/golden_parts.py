"""Parts of `make_goldens.py`: batches, published forms of config.json, and experts one by one."""
import contextlib
import json
from unittest import mock

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

MASKED = -100


def random_ids(vocabulary, rows, length, generator):
    """Token ids. Those below 3 are special in every family."""
    return torch.randint(3, vocabulary, (rows, length), generator=generator)


def labels_of(ids):
    """Labels masked at the start, inside and at the end."""
    labels = ids.clone()
    length = ids.shape[1]
    labels[0, :9] = MASKED
    labels[1, length // 2:length // 2 + 5] = MASKED
    labels[1, length - 1] = MASKED
    return labels


def relative(found, expected):
    difference = (found.double() - expected.double()).norm()
    return (difference / expected.double().norm().clamp_min(1e-30)).item()


def published_config(config, published, absent):
    """config.json with the keys of transformers 4, in which nearly every published folder is, and `published` on top."""
    config = dict(config)
    rope = config.pop("rope_parameters")
    if "full_attention" in rope:  # Gemma 3: two bases, a scaling for the global layers alone
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    rope = dict(rope)
    config["rope_theta"] = rope.pop("rope_theta")
    partial = rope.pop("partial_rotary_factor", 1.0)
    if partial != 1.0:
        config["partial_rotary_factor"] = partial
    if "original_max_position_embeddings" in config:  # Phi-3 has it outside
        rope.pop("original_max_position_embeddings", None)
    key = published.get("rope_key", "rope_type")
    kind = rope.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {key: kind, **rope}
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.46.0"
    config.pop("layer_types", None)
    config.update({k: v for k, v in published.items() if k != "rope_key"})
    for name in absent:
        config.pop(name, None)
    return config


def not_v5(config):
    """What transformers 5 reads wrongly. Gemma 1 was published with `hidden_act: gelu` by mistake; transformers 4 took
    `hidden_activation` instead, transformers 5 has no such switch and would compute the exact GELU."""
    if config["model_type"] == "gemma" and "hidden_activation" in config:
        config = {**config, "hidden_act": config["hidden_activation"]}
    return config


class Expert(nn.Module):
    def __init__(self, names, gate_up, down):
        super().__init__()
        self.names = names
        gate, up = gate_up.chunk(2)
        for name, w in zip(names, (gate, up, down)):
            linear = nn.Linear(w.shape[1], w.shape[0], bias=False)
            linear.weight = nn.Parameter(w.detach().clone())
            setattr(self, name, linear)

    def forward(self, x):
        gate, up, down = (getattr(self, n) for n in self.names)
        return down(nn.functional.silu(gate(x)) * up(x))


class SingleExperts(nn.ModuleList):
    """The experts of a layer as modules of their own, in transformers 5's order of operations."""

    def __init__(self, fused, names):
        super().__init__(Expert(names, gu, d) for gu, d in zip(fused.gate_up_proj, fused.down_proj))

    def forward(self, hidden, index, weights):
        out = torch.zeros_like(hidden)
        for number, expert in enumerate(self):
            token, position = torch.where(index == number)
            if len(token):
                y = expert(hidden[token]) * weights[token, position, None]
                out.index_add_(0, token, y.to(out.dtype))
        return out


class Names:
    """Between the names of the modules here and those of published checkpoints and adapters."""

    def __init__(self, renames, found):
        self.renames = renames
        self.found = found

    def name(self, name):
        for a, b in self.renames:
            name = name.replace(a, b)
        return name

    def peft(self):
        """PEFT's translation of targets to fused experts, off while the experts are single."""
        if not self.found:
            return contextlib.nullcontext()
        where = "peft.utils.transformers_weight_conversion."
        stack = contextlib.ExitStack()
        stack.enter_context(mock.patch(where + "convert_peft_config_for_transformers", lambda *a, **k: None))
        stack.enter_context(mock.patch(
            where + "convert_peft_adapter_state_dict_for_transformers",
            lambda *a, **k: next(v for v in (*a, *k.values()) if isinstance(v, dict))))
        return stack

    def tidy_adapter(self, folder):
        """Published names, and targets in order: PEFT writes a set."""
        file = folder / "adapter_config.json"
        config = json.loads(file.read_text())
        for key in ("target_modules", "target_parameters"):
            if isinstance(config.get(key), list):
                config[key].sort()
        file.write_text(json.dumps(config, indent=2, sort_keys=True))
        (folder / "README.md").unlink(missing_ok=True)
        if self.renames:
            file = folder / "adapter_model.safetensors"
            with safe_open(file, "pt") as f:
                tensors = {self.name(n): f.get_tensor(n) for n in f.keys()}
            save_file(tensors, file, metadata={"format": "pt"})


def single_experts(model):
    """Replaces the fused experts of a model, if it has any."""
    if model is None:
        return Names([], False)
    mixtral = model.config.model_type == "mixtral"
    names = ["w1", "w3", "w2"] if mixtral else ["gate_proj", "up_proj", "down_proj"]
    found = False
    for layer in model.model.layers:
        if hasattr(layer.mlp, "experts"):
            layer.mlp.experts = SingleExperts(layer.mlp.experts, names)
            found = True
    return Names([(".mlp.", ".block_sparse_moe.")] if mixtral else [], found)
