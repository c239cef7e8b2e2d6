"""PyTorch's encoder of BERT-base's shape, bf16, random weights: eager with SDPA, and the same replayed from a CUDA graph.

    python3 bench/encoder/peer.py

Writes one JSON object: for each batch the median microseconds of both.
"""
import json
import statistics

import torch
import torch.nn.functional as F

LAYERS, WIDTH, INNER, HEADS, VOCABULARY, POSITIONS = 12, 768, 3072, 12, 30522, 512


def make(*shape, deviation=0.03):
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16) * deviation


tables = make(VOCABULARY, WIDTH), make(POSITIONS, WIDTH), make(2, WIDTH)
bias, gain, wide, triple = make(WIDTH), make(WIDTH), make(INNER), make(3 * WIDTH)
layers = [(make(3 * WIDTH, WIDTH), make(WIDTH, WIDTH), make(INNER, WIDTH), make(WIDTH, INNER)) for _ in range(LAYERS)]


def encode(ids, positions, types):
    sequences, tokens = ids.shape
    norm = lambda x: F.layer_norm(x, (WIDTH,), gain, bias, 1e-5)
    x = norm(F.embedding(ids, tables[0]) + F.embedding(positions, tables[1]) + F.embedding(types, tables[2]))
    for qkv, output, up, down in layers:
        q, k, v = F.linear(x, qkv, triple).view(sequences, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(sequences, tokens, WIDTH)
        x = norm(x + F.linear(mixed, output, bias))
        x = norm(x + F.linear(F.gelu(F.linear(x, up, wide)), down, bias))
    return F.normalize(x.float().mean(1), dim=-1)


def median(run, repeats=9):
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1000)
    return round(statistics.median(times), 1)


results = []
with torch.no_grad():
    for sequences, tokens in ((64, 512), (8, 512), (1, 32)):
        ids = torch.randint(VOCABULARY, (sequences, tokens), device="cuda")
        positions, types = torch.arange(tokens, device="cuda").expand(sequences, tokens), torch.zeros_like(ids)
        run = lambda: encode(ids, positions, types)
        eager = median(run)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        results.append(
            {"sequences": sequences, "tokens": tokens, "eagerMicroseconds": eager, "graphMicroseconds": median(graph.replay)}
        )
print(json.dumps({"torch": torch.__version__, "results": results}))
