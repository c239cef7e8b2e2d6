"""PyTorch attention by flash and by cuDNN, causal, 32 heads, in the shapes of bench/attention/run.ts: one line for each."""
import statistics

import torch
import torch.nn.functional as F
from torch.nn.attention import sdpa_kernel, SDPBackend
print(torch.__version__, torch.cuda.get_device_name(), torch.backends.cudnn.version())
def time(f, sets, launches=6, reps=11):
    s = torch.cuda.Stream()
    with torch.cuda.stream(s):
        for a in sets: f(*a)
    torch.cuda.synchronize()
    g = torch.cuda.CUDAGraph()
    with torch.cuda.graph(g, stream=s):
        keep = [f(*sets[i % len(sets)]) for i in range(launches)]
    ts = []
    for _ in range(3): g.replay()
    torch.cuda.synchronize()
    for _ in range(reps):
        b, e = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        b.record(); g.replay(); e.record(); torch.cuda.synchronize(); ts.append(b.elapsed_time(e) * 1000 / launches)
    return statistics.median(ts)
for (b, n, kv, d) in [(1, 8192, 32, 128), (1, 2048, 32, 128), (1, 8192, 32, 64), (1, 8192, 32, 256)]:
    sets = [tuple(torch.randn(b, h, n, d, device='cuda', dtype=torch.bfloat16) for h in (32, kv, kv)) for _ in range(2)]
    flops = 4 * b * 32 * d * n * (n + 1) / 2
    for name, be in [('flash', SDPBackend.FLASH_ATTENTION), ('cudnn', SDPBackend.CUDNN_ATTENTION)]:
        try:
            with sdpa_kernel(be):
                us = time(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), sets)
            print(f'torch {name} {b}x{n} d{d}: {us:.1f} us {flops/us/1e6:.1f} TFLOP/s', flush=True)
        except Exception as ex:
            print(name, b, n, d, 'error', str(ex).splitlines()[0])
