"""Parts of `make_goldens.py` for models with experts: tokens whose experts are chosen by a wide margin.

A gradient of a token that another expert gets has nothing to do with the golden. Were tokens drawn at random, some token's
choice would hang on a rounding: the closest of a hundred gaps between scores is about a hundredth of the usual one. So tokens
are chosen one after the other: what a router does at a position depends on the tokens up to it alone, so some are tried there
and one with a wide gap is taken.
"""
import torch

# The narrowest gap is at least so many standard deviations of what bfloat16 changes of the difference of two scores.
LEAST_MARGIN = 6.0
# What a token is looked for with: what bfloat16 changes is known of a batch of random tokens by then.
WANTED_MARGIN = 10.0
# Tokens of a batch that an expert gets at least, so that its gradient is a sum and not one rounding.
LEAST_TOKENS = 3
# Tokens that are tried at a position, and how many of them must be wide enough: where fewer are, the widest.
TRIED = 48
ENOUGH = 6


class Unsure(Exception):
    """These weights give no batch whose router is sure; others may."""


def routers(model):
    return [m for n, m in model.named_modules() if n.endswith("mlp.gate")]


def scores(logits, gate):
    """What the choice is made by: logits, of which a softmax keeps the order, or V3's sigmoids with their correction."""
    bias = getattr(gate, "e_score_correction_bias", None)
    return logits.float() if bias is None else logits.float().sigmoid() + bias.float()


def apart(values, k):
    """By how much the k-th largest of each row is above the next."""
    if k >= values.shape[-1]:
        return torch.full(values.shape[:-1], torch.inf)
    largest = values.sort(dim=-1, descending=True).values
    return largest[..., k - 1] - largest[..., k]


def gaps(values, gate):
    """The smallest gap that a token's choice hangs on: among its groups, those of sums of two halved, and its experts."""
    groups, taken = getattr(gate, "num_group", None) or 1, getattr(gate, "topk_group", None) or 1
    if taken >= groups or getattr(gate, "topk_method", "") == "greedy":
        return apart(values, gate.top_k)
    grouped = values.view(len(values), groups, -1)
    of_sum = hasattr(gate, "e_score_correction_bias")
    worth = grouped.topk(2, dim=-1).values.mean(dim=-1) if of_sum else grouped.max(dim=-1).values
    best = torch.zeros_like(worth, dtype=torch.bool).scatter(1, worth.topk(taken, dim=-1).indices, True)
    allowed = grouped[best].view(len(values), -1)
    return torch.minimum(apart(worth, taken), apart(allowed, gate.top_k))


class Routing:
    """What the routers of a model do with a batch: scores and chosen experts, of each layer [row, time, experts]."""

    def __init__(self, model, ids):
        self.gates = routers(model)
        self.scores, self.chosen = [], []

        def note(gate, args, output):
            self.scores.append(scores(output[0], gate).view(*ids.shape, -1))
            self.chosen.append(output[2].sort(dim=-1).values.view(*ids.shape, -1))

        hooks = [g.register_forward_hook(note) for g in self.gates]
        model.eval()
        with torch.no_grad():
            model(input_ids=ids)
        for h in hooks:
            h.remove()

    def gaps(self):
        """[layer, row, time]"""
        return torch.stack([gaps(s.flatten(0, 1), g).view(s.shape[:2]) for s, g in zip(self.scores, self.gates)])

    def counts(self):
        """Tokens of each expert, of each layer."""
        return [torch.bincount(c.flatten(), minlength=s.shape[-1]) for c, s in zip(self.chosen, self.scores)]


def changes(a, b):
    """What bfloat16 changes of the difference of two scores, [layer], from the routing of both models."""
    return torch.tensor([(2 * (x - y).square().mean()).sqrt() for x, y in zip(a.scores, b.scores)])


def sure_ids(exact, half, vocabulary, rows, length, generator):
    """Token ids [rows, length] of which every one has wide gaps in every layer of every one of the exact models, and which
    go to all experts: of the tokens that may stand at a place the one is taken whose experts had the fewest so far."""
    random = torch.randint(3, vocabulary, (rows, length), generator=generator)
    rounding = [changes(Routing(a, random), Routing(b, random))[:, None, None] for a, b in zip(exact, half)]
    ids = torch.zeros(rows, 0, dtype=torch.long)
    used = None
    for _ in range(length):
        tried = torch.stack([3 + torch.randperm(vocabulary - 3, generator=generator)[:TRIED] for _ in range(rows)])
        texts = torch.cat([ids[:, None].expand(-1, TRIED, -1), tried[:, :, None]], dim=2).flatten(0, 1)
        routing = [Routing(m, texts) for m in exact]
        times = torch.cat([(r.gaps() / s)[:, :, -1] for r, s in zip(routing, rounding)]).amin(dim=0).view(rows, TRIED)
        experts = [c[:, -1].view(rows, TRIED, -1) for r in routing for c in r.chosen]
        used = used or [torch.zeros(s.shape[-1]) for r in routing for s in r.scores]
        taken = []
        for row in range(rows):
            wide = times[row].topk(max(ENOUGH, int((times[row] >= WANTED_MARGIN).sum()))).indices
            wanted = sum((1 / (1 + u)[e[row, wide]]).sum(dim=-1) for u, e in zip(used, experts))
            best = wide[wanted.argmax()]
            for u, e in zip(used, experts):
                u[e[row, best]] += 1
            taken.append(tried[row, best])
        ids = torch.cat([ids, torch.stack(taken)[:, None]], dim=1)
    return ids


def margin(exact, half, ids):
    """{"gap", "bfloat16", "times", "tokens"} of a model in float32 and in bfloat16; Unsure where they choose differently.

    gap: the smallest in the float32 model; bfloat16: the most that it changes the difference of two scores in a layer, as the
    root of the mean square; times: the smallest gap over that change in its layer; tokens: of the expert with the fewest."""
    a, b = Routing(exact, ids), Routing(half, ids)
    if not all(torch.equal(x, y) for x, y in zip(a.chosen, b.chosen)):
        raise Unsure("bfloat16 takes other experts")
    change = changes(a, b)
    narrowest = a.gaps().flatten(1).amin(dim=1)
    return {"gap": narrowest.amin().item(), "bfloat16": change.amax().item(), "times": (narrowest / change).amin().item(),
            "tokens": min(int(c.amin()) for c in a.counts())}


def check_margin(found):
    if found["times"] < LEAST_MARGIN or found["tokens"] < LEAST_TOKENS:
        raise Unsure(found)
    return found


def worst(margins):
    """That of several batches."""
    return {k: (max if k == "bfloat16" else min)(m[k] for m in margins) for k in margins[0]}
