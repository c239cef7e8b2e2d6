"""PyTorch's draws from 128 x 128,256 float32 logits, as bench/kernels/sample.ts measures Rose's.

    python3 bench/kernels/sample_peer.py

Writes one JSON object: median microseconds under replay of a CUDA graph, four batches of logits in turn.
"""
import json
import statistics

import torch

ROWS, VOCABULARY, SETS = 128, 128256, 4


def top_p(logits):
    """Sort, cut where the sum before a token has reached 0.9, draw; as generation in transformers does it."""
    values, ids = torch.sort(logits, descending=True)
    weights = torch.softmax(values, -1)
    cut = torch.cumsum(weights, -1) - weights >= 0.9
    weights = weights.masked_fill(cut, 0)
    # multinomial waits for the host in some versions; the exponential race does not.
    chosen = torch.argmax(weights / torch.empty_like(weights).exponential_(), -1, keepdim=True)
    return ids.gather(-1, chosen)


def top_k_top_p(logits):
    values, ids = torch.topk(logits, 50, -1)
    weights = torch.softmax(values, -1)
    weights = weights.masked_fill(torch.cumsum(weights, -1) - weights >= 0.9, 0)
    chosen = torch.argmax(weights / torch.empty_like(weights).exponential_(), -1, keepdim=True)
    return ids.gather(-1, chosen)


def microseconds(function, sets):
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(2):
            kept = [function(logits) for logits in sets]
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        kept = [function(logits) for logits in sets]
    times = []
    for _ in range(15):
        begin, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        stop.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(stop) * 1000 / len(sets))
    del kept
    return statistics.median(times[2:])


def main():
    sets = [torch.randn(ROWS, VOCABULARY, device="cuda") for _ in range(SETS)]
    result = {"torch": torch.__version__, "rows": ROWS, "vocabulary": VOCABULARY}
    for name, function in [("argmax", lambda x: torch.argmax(x, -1)), ("topP", top_p), ("topKTopP", top_k_top_p)]:
        try:
            result[name] = microseconds(function, sets)
        except Exception as error:  # One must not hide the others.
            result[name] = str(error).splitlines()[0]
    print(json.dumps(result))


main()
