"""Hugging Face transformers with random weights of a shape: decoding with a static cache, compiled for one stream and eager for 32,
and a prompt of 8,192 tokens. Argument: the shape as JSON (bench/models/llama-shapes.ts)."""

import json
import sys
import time

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM, StaticCache

shape = json.loads(sys.argv[1])
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
print(f"transformers {transformers.__version__}, torch {torch.__version__}", flush=True)


@torch.inference_mode()
def decode(batch, context, compiled, steps):
    cache = StaticCache(config=config, max_batch_size=batch, max_cache_len=context + steps + 16, device="cuda", dtype=torch.bfloat16)
    forward = torch.compile(model, mode="reduce-overhead", fullgraph=True) if compiled else model
    token = torch.full((batch, 1), 5, device="cuda")
    for warm in range(3):
        forward(token, past_key_values=cache, cache_position=torch.tensor([context + warm], device="cuda"), use_cache=True)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for step in range(steps):
        position = torch.tensor([context + 3 + step], device="cuda")
        logits = forward(token, past_key_values=cache, cache_position=position, use_cache=True).logits
        token = logits[:, -1:].argmax(-1)
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
        seconds = time.perf_counter() - start
    return tokens / seconds


print(f"decode 32 x 1000 eager: {decode(32, 1000, False, 24):.0f} tokens/s", flush=True)
print(f"prefill 8192 eager: {prefill(8192):.0f} tokens/s", flush=True)
print(f"decode 1 x 128 eager: {decode(1, 128, False, 32):.0f} tokens/s", flush=True)
print(f"decode 1 x 128 compiled: {decode(1, 128, True, 64):.0f} tokens/s", flush=True)
