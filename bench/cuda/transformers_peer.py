"""Hugging Face transformers with random weights of a shape: decoding with a static cache, eager and compiled for one stream and eager
for 32, and a prompt of 8,192 tokens. Arguments: the shape as JSON (bench/models/llama-shapes.ts) and the seconds for all of it.

One line of JSON for each part that is finished, as it is finished; what takes too long is missing, and the last line says so."""

import json
import os
import sys
import threading
import time

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM, StaticCache

shape = json.loads(sys.argv[1])
seconds = float(sys.argv[2])
began = time.perf_counter()


def say(**facts):
    print(json.dumps({**facts, "atSeconds": round(time.perf_counter() - began, 1)}), flush=True)


def give_up():
    say(part="end", reason=f"the {seconds:.0f} s are over")
    # A compiler's threads and processes are not waited for.
    os._exit(0)


limit = threading.Timer(seconds, give_up)
limit.daemon = True
limit.start()

qwen = shape["architecture"].startswith("Qwen3")
config = (Qwen3Config if qwen else LlamaConfig)(
    vocab_size=shape["vocabulary"],
    hidden_size=shape["hidden"],
    intermediate_size=shape["channel"],
    num_hidden_layers=shape["layers"],
    num_attention_heads=shape["heads"],
    num_key_value_heads=shape["kvHeads"],
    head_dim=shape["headDim"],
    max_position_embeddings=shape["context"],
    rope_theta=500000.0,
    tie_word_embeddings=shape["tied"],
)
torch.set_default_dtype(torch.bfloat16)
with torch.device("cuda"):
    model = (Qwen3ForCausalLM if qwen else LlamaForCausalLM)(config).eval()
say(part="loaded", transformers=transformers.__version__, torch=torch.__version__)


@torch.inference_mode()
def decode(batch, context, steps, compiled=False):
    cache = StaticCache(config=config, max_batch_size=batch, max_cache_len=context + steps + 16, device="cuda", dtype=torch.bfloat16)
    forward = model
    token = torch.full((batch, 1), 5, device="cuda")
    position = torch.tensor([context], device="cuda")

    def step():
        # Tokens and positions stay where they are, so that a graph finds them there; results are copied out of it.
        logits = forward(token, past_key_values=cache, cache_position=position, use_cache=True).logits
        token.copy_(logits[:, -1:].argmax(-1))
        position.add_(1)

    # The cache gets its memory here, whose addresses a captured graph has to know as lasting ones.
    step()
    if compiled:
        forward = torch.compile(model, mode="reduce-overhead", fullgraph=True)
        # The first call compiles, the second one captures.
        for _ in range(3):
            step()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    return batch * steps / (time.perf_counter() - start)


@torch.inference_mode()
def prefill(tokens):
    prompt = torch.randint(5, 10000, (1, tokens), device="cuda")
    for _ in range(2):
        torch.cuda.synchronize()
        start = time.perf_counter()
        model(prompt, use_cache=True, logits_to_keep=1)
        torch.cuda.synchronize()
        taken = time.perf_counter() - start
    return tokens / taken


say(part="decode", mode="eager", sequences=1, context=128, tokensPerSecond=decode(1, 128, 32))
say(part="decode", mode="eager", sequences=32, context=1000, tokensPerSecond=decode(32, 1000, 24))
say(part="prefill", mode="eager", sequences=1, context=8192, tokensPerSecond=prefill(8192))
say(part="decode", mode="compiled", sequences=1, context=128, tokensPerSecond=decode(1, 128, 64, compiled=True))
say(part="end", reason="finished")
# Compilers' processes are not waited for.
os._exit(0)
