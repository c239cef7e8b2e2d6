"""PyTorch's grouped products on the routes that bench/gemm/grouped.ts writes to standard input: microseconds as JSON."""
import json
import statistics
import sys

import torch
import torch.nn.functional as F


def median_time(run, launches, repeats=9):
    """Median microseconds of a call, calls captured in a graph; call i gets the number i."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for i in range(2):
            run(i)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for i in range(launches):
            run(i)
    for _ in range(3):
        graph.replay()
    torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) * 1000 / launches)
    return statistics.median(times)


def gated(y):
    half = y.shape[1] // 2
    return F.silu(y[:, :half]) * y[:, half:]


def main():
    given = json.load(sys.stdin)
    figures = []
    for case in given["cases"]:
        columns, depth = case["columns"], case["depth"]
        experts = len(given["routes"][0]["starts"][0]) - 1
        weights = [
            torch.randn(experts, columns, depth, device="cuda", dtype=torch.bfloat16) * depth**-0.5
            for _ in range(given["copies"])
        ]
        for route in given["routes"]:
            starts = route["starts"]
            rows = starts[0][-1]
            x = torch.randn(rows, depth, device="cuda", dtype=torch.bfloat16)
            ends = [torch.tensor(one[1:], device="cuda", dtype=torch.int32) for one in starts]
            launches = len(starts)

            def grouped(i):
                w = weights[i % len(weights)]
                return torch._grouped_mm(x, w.transpose(-2, -1), offs=ends[i % launches])

            def loop(i):
                w, own = weights[i % len(weights)], starts[i % launches]
                y = torch.empty(rows, columns, device="cuda", dtype=torch.bfloat16)
                for expert in range(experts):
                    first, end = own[expert], own[expert + 1]
                    if end > first:
                        torch.mm(x[first:end], w[expert].t(), out=y[first:end])
                return y

            figure = {"id": case["id"], "tokens": route["tokens"]}
            for name, product in (("grouped_mm", grouped), ("loop", loop)):
                try:
                    figure[name] = round(median_time(product, launches), 2)
                    if case["gate"]:
                        figure[name + "_and_silu"] = round(median_time(lambda i: gated(product(i)), launches), 2)
                except (AttributeError, RuntimeError) as error:
                    figure[name + "_error"] = str(error).splitlines()[0]
            figures.append(figure)
    print(json.dumps({"version": torch.__version__, "figures": figures}))


main()
