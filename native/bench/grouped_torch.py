"""The grouped products of routed experts beside torch's grouped_mm, by turns on one stream, the L2 cache cleared before each.

    python3 native/bench/grouped_torch.py LIBRARY [WORD ...]

LIBRARY is liboribi_cuda.so; words choose among the shapes. Rows go to experts at random, so that experts have unequal rows.
torch writes a gradient of weights in bfloat16, Oribi adds it to one in fp32: torch is timed with and without that addition.
"""
import ctypes
import os
import sys

import torch

REPETITIONS = 20


class Shape(ctypes.Structure):  # oribi_grouped_shape
    _fields_ = ([(name, ctypes.c_int64) for name in ("n", "experts", "inputs", "outputs", "ld_x", "ld_y", "ld_w", "expert_w")]
                + [(name, ctypes.c_void_p) for name in ("offsets", "x_row", "y_row")]
                + [("scale", ctypes.c_float), ("accumulate", ctypes.c_int32), ("t", ctypes.c_int32)])


class Oribi:
    def __init__(self, path):
        self.library = ctypes.CDLL(path, mode=os.RTLD_LAZY)
        self.library.oribi_ctx_message.restype = ctypes.c_char_p
        self.library.oribi_ctx_stream.restype = ctypes.c_void_p
        self.ctx = ctypes.c_void_p()
        if self.library.oribi_ctx_create(ctypes.byref(self.ctx), 1, 0, 0) != 0:
            sys.exit("oribi_ctx_create failed")
        self.stream = torch.cuda.ExternalStream(self.library.oribi_ctx_stream(self.ctx))

    def call(self, name, out, left, right, shape):
        pointers = [ctypes.c_void_p(t.data_ptr()) for t in (out, left, right)]
        if getattr(self.library, name)(self.ctx, *pointers, ctypes.byref(shape)) != 0:
            sys.exit(self.library.oribi_ctx_message(self.ctx).decode())


def times(bodies):
    """The median milliseconds of each body."""
    dirty = torch.empty(1 << 25, device="cuda")
    events = [[] for _ in bodies]
    for body in bodies:
        body()
    for repetition in range(REPETITIONS):
        for at in range(len(bodies)):
            dirty.fill_(repetition)
            dirty.sum()
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            bodies[at]()
            end.record()
            events[at].append((begin, end))
    torch.cuda.synchronize()
    return [sorted(b.elapsed_time(e) for b, e in each)[len(each) // 2] for each in events]


def report(name, flops, bodies):
    found = times([body for _, body in bodies])
    print(f"{name:44s}" + "  ".join(f"{what} {ms:8.4f} ms {flops / ms * 1e-9:6.1f}" for (what, _), ms in zip(bodies, found))
          + f"   torch/oribi {found[0] / found[1]:.3f}", flush=True)


def check(name, found, expected):
    error = (found.float() - expected.float()).norm() / expected.float().norm()
    if not error < 0.01:
        print(f"{name}: WRONG, relative error {error}", flush=True)


def with_mma(body):
    def run():
        os.environ["ORIBI_GROUPED"] = "mma"
        body()
        del os.environ["ORIBI_GROUPED"]
    return run


def measure(oribi, name, experts, inputs, outputs, n, gather):
    bf16 = dict(device="cuda", dtype=torch.bfloat16)
    ends = torch.cumsum(torch.bincount(torch.randint(experts, (n,), device="cuda"), minlength=experts), 0).int()
    offsets = torch.cat([torch.zeros(1, dtype=torch.int32, device="cuda"), ends])
    x, dy = torch.randn(n, inputs, **bf16), torch.randn(n, outputs, **bf16)
    w = torch.randn(experts, outputs, inputs, **bf16) * 0.02
    y, dx = torch.empty(n, outputs, **bf16), torch.empty(n, inputs, **bf16)
    rows = torch.randint(n // 8, (n,), device="cuda", dtype=torch.int32)
    shape = Shape(n, experts, inputs, outputs, inputs, outputs, inputs, inputs * outputs, offsets.data_ptr(), 0, 0, 1.0, 0, 1)
    rows_of_x = Shape(n, experts, inputs, outputs, inputs, outputs, inputs, inputs * outputs, offsets.data_ptr(), rows.data_ptr(), 0, 1.0, 0, 1)
    rows_of_y = Shape(n, experts, inputs, outputs, inputs, outputs, inputs, inputs * outputs, offsets.data_ptr(), 0, rows.data_ptr(), 1.0, 0, 1)
    added_x = Shape(n, experts, inputs, outputs, inputs, outputs, inputs, inputs * outputs, offsets.data_ptr(), rows.data_ptr(), 0, 1.0, 1, 1)
    added_y = Shape(n, experts, inputs, outputs, inputs, outputs, inputs, inputs * outputs, offsets.data_ptr(), 0, rows.data_ptr(), 1.0, 1, 1)
    added = Shape(n, experts, inputs, outputs, inputs, outputs, inputs, inputs * outputs, offsets.data_ptr(), 0, 0, 1.0, 1, 1)
    flops = 2.0 * n * inputs * outputs
    label = f"{name} {n} rows {inputs}->{outputs}"

    def forward(): oribi.call("oribi_grouped_matmul", y, x, w, shape)
    def gathered(): oribi.call("oribi_grouped_matmul", y, x, w, rows_of_x)
    def of_dx(): oribi.call("oribi_grouped_matmul_dx", dx, dy, w, shape)
    def gathered_dx(): oribi.call("oribi_grouped_matmul_dx", dx, dy, w, rows_of_y)
    transposed = w.transpose(1, 2)
    forward()
    check(label, y, torch._grouped_mm(x, transposed, offs=ends))
    report(label, flops, [("torch", lambda: torch._grouped_mm(x, transposed, offs=ends)), ("oribi", forward)]
           + ([("gathered", gathered)] if gather else []) + [("mma", with_mma(forward))])
    if gather:
        gathered()
        check(label + " gathered", y, torch._grouped_mm(x[rows.long()], transposed, offs=ends))
    of_dx()
    check(label + " dx", dx, torch._grouped_mm(dy, w, offs=ends))
    report(label + " dx", flops, [("torch", lambda: torch._grouped_mm(dy, w, offs=ends)), ("oribi", of_dx)]
           + ([("gathered", gathered_dx)] if gather else []) + [("mma", with_mma(of_dx))])
    dw = torch.zeros(experts, outputs, inputs, device="cuda")

    def of_dw(): oribi.call("oribi_grouped_matmul_dw", dw, dy, x, added)
    def dw_of_x(): oribi.call("oribi_grouped_matmul_dw", dw, dy, x, added_x)
    def dw_of_y(): oribi.call("oribi_grouped_matmul_dw", dw, dy, x, added_y)
    def torch_dw(): return torch._grouped_mm(dy.t(), x, offs=ends)
    of_dw()
    check(label + " dw", dw, torch_dw())
    if gather:
        dw.zero_()
        dw_of_x()
        check(label + " dw, x gathered", dw, torch._grouped_mm(dy.t(), x[rows.long()], offs=ends))
        dw.zero_()
        dw_of_y()
        check(label + " dw, dy gathered", dw, torch._grouped_mm(dy[rows.long()].t(), x, offs=ends))
    report(label + " dw", flops, [("torch, added", lambda: dw.add_(torch_dw())), ("oribi", of_dw), ("torch", torch_dw),
                                  ("x gathered", dw_of_x), ("dy gathered", dw_of_y), ("mma", with_mma(of_dw))])


def main():
    print(torch.__version__, torch.cuda.get_device_name())
    torch.manual_seed(7)
    oribi = Oribi(sys.argv[1])
    wanted = sys.argv[2:]
    with torch.cuda.stream(oribi.stream):
        for name, experts, inputs, outputs, n, gather in (
                ("mixtral", 8, 4096, 14336, 4096, True), ("mixtral", 8, 4096, 14336, 16384, True),
                ("qwen3", 128, 2048, 768, 32768, True), ("qwen3", 128, 2048, 768, 131072, True),
                ("qwen3 down", 128, 768, 2048, 32768, True), ("qwen3 down", 128, 768, 2048, 131072, True)):
            if not wanted or any(word in name for word in wanted):
                measure(oribi, name, experts, inputs, outputs, n, gather)
                torch.cuda.empty_cache()


main()
