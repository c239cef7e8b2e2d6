"""The cases that torch.compile can do, in the same shapes and by the same protocol as bench/kernels/run.ts.

    python3 bench/kernels/peer.py CASES.json|- SECONDS_PER_CASE

Writes one JSON object to standard output: the device, the bandwidth of a device-to-device copy, and for each case the
median microseconds of a launch under replay of a CUDA graph, inputs rotated so that the L2 cache does not serve them.
"""
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

ROTATION_BYTES = 1 << 28
LAUNCHES = 16


def rmsnorm(x, weight, residual=None, scale=None):
    total = None
    if residual is not None:
        x = total = x + residual
    h = x.float()
    y = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6) * weight.float()
    if scale is not None:
        y = (y / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
        return y
    y = y.to(x.dtype)
    return y if total is None else (y, total)


def quantise(x, size):
    groups = x.float().reshape(x.shape[0], -1, size)
    scale = groups.abs().amax(-1, keepdim=True).clamp_min(2.0**-100) / 448
    y = (groups / scale).to(torch.float8_e4m3fn).reshape(x.shape)
    return y, scale.squeeze(-1).t().contiguous()


def layernorm(x, weight, bias):
    return F.layer_norm(x, (x.shape[-1],), weight, bias, 1e-5)


def swiglu(x):
    gate, value = x.chunk(2, -1)
    return F.silu(gate.float()).mul(value.float()).to(x.dtype)


def geglu_erf(x):
    gate, value = x.chunk(2, -1)
    return F.gelu(gate.float()).mul(value.float()).to(x.dtype)


def softmax(x):
    return torch.softmax(x.float() * 0.75, -1).to(x.dtype)


def embedding(ids, table):
    return F.embedding(ids, table)


def make(case):
    """The function, and a maker of its inputs. None where torch has nothing that is the same."""
    kernel, dims, options = case["kernel"], case["dims"], case.get("options", {})

    def bf16(*shape):
        return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)

    if kernel == "rmsnorm":
        shape = (dims["rows"], dims["columns"])
        if options.get("residual"):
            return rmsnorm, lambda: (bf16(*shape), bf16(shape[1]), bf16(*shape))
        if options.get("output", "same") not in ("same", "e4m3"):
            return None
        if options.get("output") == "e4m3":
            scale = torch.tensor([0.0625], device="cuda")
            return rmsnorm, lambda: (bf16(*shape), bf16(shape[1]), None, scale)
        return rmsnorm, lambda: (bf16(*shape), bf16(shape[1]))
    if kernel == "quantise":
        size = dims["columns"] if options.get("scales") == "row" else 128
        return (lambda x: quantise(x, size)), lambda: (bf16(dims["rows"], dims["columns"]),)
    if kernel == "layernorm":
        shape = (dims["rows"], dims["columns"])
        return layernorm, lambda: (bf16(*shape), bf16(shape[1]), bf16(shape[1]))
    if kernel == "activation":
        function = {"swiglu": swiglu, "geglu_erf": geglu_erf}[options.get("kind", "swiglu")]
        return function, lambda: (bf16(dims["rows"], 2 * dims["columns"]),)
    if kernel == "softmax":
        return softmax, lambda: (bf16(dims["rows"], dims["columns"]),)
    if kernel == "embedding":
        ids = lambda: torch.randint(dims["vocabulary"], (dims["tokens"],), device="cuda")
        table = bf16(dims["vocabulary"], dims["columns"])
        return embedding, lambda: (ids(), table)
    if kernel == "argmax":
        return (lambda x: torch.argmax(x, -1)), lambda: (bf16(dims["rows"], dims["columns"]),)
    if kernel == "topk":
        x = lambda: (torch.randn(dims["rows"], dims["columns"], device="cuda"),)
        return (lambda x: torch.topk(x, dims["k"], -1)), x
    if kernel == "transpose":
        return (lambda x: x.t().contiguous()), lambda: (bf16(dims["rows"], dims["columns"]),)
    return None


def tensors_of(value):
    if isinstance(value, torch.Tensor):
        return [value]
    return [t for part in value for t in tensors_of(part)] if isinstance(value, (tuple, list)) else []


def microseconds(run, launches, seconds):
    """Median time of one of `launches` launches that `run` makes, under replay of a graph."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        kept = run()
    times = []
    end = time.monotonic() + seconds
    graph.replay()
    torch.cuda.synchronize()
    while time.monotonic() < end or len(times) < 10:
        begin, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        stop.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(stop) * 1000 / launches)
    del kept
    return statistics.median(times)


def measure(case, seconds):
    made = make(case)
    if made is None:
        return None
    function, inputs = made
    torch._dynamo.reset()
    compiled = torch.compile(function, dynamic=False, mode="max-autotune-no-cudagraphs")
    first = inputs()
    size = sum(t.nbytes for t in tensors_of(first)) + sum(t.nbytes for t in tensors_of(compiled(*first)))
    sets = [first] + [inputs() for _ in range(max(2, -(-ROTATION_BYTES // size)) - 1 if size > 1 << 20 else 15)]
    launches = max(LAUNCHES, len(sets))

    def run():
        # The outputs are kept alive, so that each launch of a round writes to memory of its own.
        return [compiled(*sets[i % len(sets)]) for i in range(launches)] if size < 1 << 30 else run_few()

    def run_few():
        for i in range(launches):
            compiled(*sets[i % len(sets)])

    return microseconds(run, launches, seconds)


def copy_bandwidth(seconds):
    source = torch.randint(256, (1 << 30,), device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    us = microseconds(lambda: [target.copy_(source) for _ in range(4)], 4, seconds)
    return 2 * source.nbytes / us / 1e3


def main():
    cases = json.load(sys.stdin if sys.argv[1] == "-" else open(sys.argv[1]))
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 0.3
    results = {}
    for case in cases:
        try:
            us = measure(case, seconds)
        except Exception as error:  # One case must not hide the others; the reason is in the result.
            results[case["id"]] = {"error": str(error).splitlines()[0]}
            continue
        if us is not None:
            results[case["id"]] = {"microseconds": us}
        torch.cuda.empty_cache()
    json.dump(
        {
            "device": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "copyGBs": copy_bandwidth(seconds),
            "results": results,
        },
        sys.stdout,
    )


main()
