"""Make test/checkpoints: small random models of every architecture and option that Rose reads, with what transformers
computes from them.

    python3.11 -m venv reference && . reference/bin/activate
    pip install torch==2.15.0 transformers==5.24.0 sentence-transformers==6.2.0 safetensors==0.8.0 numpy==2.4.6 \
        accelerate==1.15.0 compressed-tensors==0.20.0
    python scripts/make_reference_checkpoints.py [NAME...]

Takes about a minute on a CPU and no network; it gives the same weights and prompts on every run. Each checkpoint is
written first (config.json by hand, in the spelling it is to test, then its tensors in their stored number format) and
then opened by transformers in float32, so golden.json says what transformers makes of the files themselves. Checkpoints of
8 bits are what each element times its scale is: the script makes these numbers, and where transformers reads the scheme it
checks that transformers makes the same ones of the files.

Weights are drawn wide enough that attention is far from uniform and logits are spread: a wrong window, scaling or bias
moves them by much more than a rounding error does. The script checks this for each option by removing it (`without`).
"""

import base64
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertModel,
    LlamaConfig,
)
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

ROOT = Path(__file__).resolve().parent.parent / "test" / "checkpoints"
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# Around the 16 tokens of a page, past every window and original context below.
LENGTHS = [1, 5, 16, 17, 41, 90]
CONTINUATION = 24
# Distance between the two highest logits below which a greedy continuation is not used.
SMALLEST_GAP = 0.03
# How much an option must move some logit or score for the checkpoint to test it.
EFFECT = 0.05

LLAMA = dict(
    architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=200, hidden_size=32, intermediate_size=64,
    num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, hidden_act="silu", rms_norm_eps=1e-5,
    max_position_embeddings=128, tie_word_embeddings=False, attention_bias=False, mlp_bias=False, bos_token_id=1,
    eos_token_id=2, rope_theta=10000.0, rope_scaling=None,
)
WIDE = dict(hidden_size=64, num_attention_heads=4, num_key_value_heads=2)
QWEN2 = dict(
    {k: v for k, v in LLAMA.items() if k not in ("attention_bias", "mlp_bias")},
    architectures=["Qwen2ForCausalLM"], model_type="qwen2", rms_norm_eps=1e-6, use_sliding_window=False,
    sliding_window=64, max_window_layers=2,
)
QWEN3 = dict(QWEN2, architectures=["Qwen3ForCausalLM"], model_type="qwen3", head_dim=32, attention_bias=False)
BERT = dict(
    architectures=["BertModel"], model_type="bert", vocab_size=200, hidden_size=32, intermediate_size=64,
    num_hidden_layers=2, num_attention_heads=2, hidden_act="gelu", layer_norm_eps=1e-12, max_position_embeddings=96,
    type_vocab_size=2, position_embedding_type="absolute", pad_token_id=0,
)


def new_rope(config, **parameters):
    """The spelling of transformers 5: everything about the rotary embedding in `rope_parameters`."""
    config = {k: v for k, v in config.items() if k not in ("rope_theta", "rope_scaling")}
    return dict(config, rope_parameters=dict(parameters))


class Checkpoint:
    """One directory. `without`: changes to config.json that take away the options under test."""

    def __init__(self, about, config, dtype="BF16", without=(), shards=1, norm_dtype=None, sentence=None, legacy=False,
                 fp8=None):
        self.about, self.config, self.dtype, self.without = about, config, dtype, without
        self.shards, self.norm_dtype, self.sentence, self.legacy = shards, norm_dtype, sentence, legacy
        self.fp8 = fp8


class Fp8:
    """How matrices of 8 bits are stored: `kind` of scales, their number format and name, what stays as it is,
    and whether transformers reads it on a CPU."""

    def __init__(self, kind, scale="weight_scale", dtype=torch.float32, static=False, cache=False,
                 alone=("lm_head",), checked=False):
        self.kind, self.scale, self.dtype = kind, scale, dtype
        self.static, self.cache, self.alone, self.checked = static, cache, alone, checked

    def narrows(self, name):
        return "_proj.weight" in name and not any(name.startswith(module) for module in self.alone)


def e4m3(strategy, **more):
    """Arguments of compressed-tensors."""
    return dict(num_bits=8, type="float", strategy=strategy, symmetric=True, dynamic=False, **more)


CHECKPOINTS = {
    "llama-gqa": Checkpoint("grouped-query attention, 4 heads on 2", dict(LLAMA, **WIDE)),
    "llama-mha-f32": Checkpoint(
        "as many key-value heads as heads (num_key_value_heads absent), float32, theta 500,000, 3 layers",
        {k: v for k, v in dict(LLAMA, rope_theta=500000.0, num_hidden_layers=3, vocab_size=211).items()
         if k != "num_key_value_heads"},
        dtype="F32", without=[dict(rope_theta=10000.0)]),
    "llama-mqa-f16": Checkpoint(
        "4 heads on one, float16, tanh GELU",
        dict(LLAMA, **dict(WIDE, num_key_value_heads=1), hidden_act="gelu_pytorch_tanh"), dtype="F16",
        without=[dict(hidden_act="silu")]),
    "llama-odd-sizes": Checkpoint(
        "sizes that are multiples of little: hidden 40, heads of 20, channel 76, vocabulary 211",
        dict(LLAMA, hidden_size=40, intermediate_size=76, vocab_size=211)),
    "llama-head-dim": Checkpoint(
        "head_dim apart from hidden size: 4 heads of 24 over 32", dict(LLAMA, **dict(WIDE, hidden_size=32), head_dim=24)),
    "llama-biases-tied": Checkpoint(
        "attention_bias, mlp_bias, tied embeddings", dict(LLAMA, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
        without=[dict(attention_bias=False), dict(mlp_bias=False)]),
    "llama-sharded": Checkpoint(
        "three shards with an index; norms float32 among bfloat16", dict(LLAMA, num_hidden_layers=3), shards=3,
        norm_dtype="F32"),
    "llama-rope-linear": Checkpoint(
        "linear RoPE scaling, spelled `type`", dict(LLAMA, rope_scaling=dict(type="linear", factor=4.0)),
        without=[dict(rope_scaling=None)]),
    "llama-rope-llama3": Checkpoint(
        "llama3 RoPE scaling",
        dict(LLAMA, rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                      original_max_position_embeddings=32)),
        without=[dict(rope_scaling=None)]),
    "llama-rope-yarn": Checkpoint(
        "YaRN, spelled `type`, its defaults",
        dict(LLAMA, rope_scaling=dict(type="yarn", factor=4.0, original_max_position_embeddings=32)),
        without=[dict(rope_scaling=None)]),
    "llama-rope-yarn-mscale": Checkpoint(
        "YaRN in `rope_parameters` with mscale, mscale_all_dim, betas, truncate false",
        new_rope(LLAMA, rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32,
                 beta_fast=8.0, beta_slow=0.5, mscale=1.4, mscale_all_dim=0.7, truncate=False),
        without=[new_rope(LLAMA, rope_type="default", rope_theta=10000.0)]),
    "qwen2": Checkpoint("biases on q, k and v; tied embeddings", dict(QWEN2, **WIDE, tie_word_embeddings=True)),
    "qwen2-window": Checkpoint(
        "sliding window of 24 in the layers from max_window_layers 1 on",
        dict(QWEN2, num_hidden_layers=3, use_sliding_window=True, sliding_window=24, max_window_layers=1),
        without=[dict(use_sliding_window=False), dict(sliding_window=23), dict(max_window_layers=0)]),
    "qwen2-yarn": Checkpoint(
        "YaRN with the factor from the two context lengths",
        dict(QWEN2, rope_scaling=dict(rope_type="yarn", factor=None, original_max_position_embeddings=32)),
        without=[dict(rope_scaling=None)]),
    "qwen3": Checkpoint("QK norm, tied embeddings, heads of 32 over 32", dict(QWEN3, tie_word_embeddings=True)),
    "qwen3-mixed": Checkpoint(
        "layer_types with a window of 16, attention_bias, `rope_parameters`",
        new_rope(dict(QWEN3, num_hidden_layers=3, use_sliding_window=True, sliding_window=16, attention_bias=True,
                      head_dim=16, num_attention_heads=4, num_key_value_heads=2,
                      layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
                 rope_type="default", rope_theta=1000000.0),
        without=[dict(use_sliding_window=False, layer_types=["full_attention"] * 3), dict(attention_bias=False),
                 dict(rope_parameters=dict(rope_type="default", rope_theta=10000.0))]),
    "qwen3-yarn": Checkpoint(
        "YaRN in `rope_parameters` with its attention_factor given, QK norm",
        new_rope(QWEN3, rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32,
                 attention_factor=1.3),
        without=[new_rope(QWEN3, rope_type="default", rope_theta=10000.0)]),
    "bert-mean": Checkpoint(
        "mean pooling and Normalize, the old spelling of the pooling file; inputs limited to 90 tokens", BERT,
        sentence=dict(pooling=dict(word_embedding_dimension=32, pooling_mode_cls_token=False, pooling_mode_mean_tokens=True,
                                   pooling_mode_max_tokens=False, pooling_mode_mean_sqrt_len_tokens=False),
                      normalize=True, max_seq_length=90)),
    "bert-cls": Checkpoint(
        "first token, the new spelling of the pooling file, float32, one head", dict(BERT, num_attention_heads=1), dtype="F32",
        sentence=dict(pooling=dict(embedding_dimension=32, pooling_mode="cls", include_prompt=True), normalize=True)),
    "bert-max-relu": Checkpoint(
        "maximum over the tokens, not normalised, ReLU", dict(BERT, hidden_act="relu"),
        sentence=dict(pooling=dict(embedding_dimension=32, pooling_mode="max")), without=[dict(hidden_act="gelu")]),
    "bert-sqrt-gelu-new": Checkpoint(
        "sum over the square root of the length, tanh GELU", dict(BERT, hidden_act="gelu_new"),
        sentence=dict(pooling=dict(word_embedding_dimension=32, pooling_mode_mean_tokens=False,
                                   pooling_mode_mean_sqrt_len_tokens=True)), without=[dict(hidden_act="relu")]),
    "bert-last-legacy": Checkpoint(
        "last token; names of old files: prefix `bert.`, gamma and beta, position_ids, pooler and pretraining heads", BERT,
        sentence=dict(pooling=dict(embedding_dimension=32, pooling_mode="lasttoken")), legacy=True),
    "bert-plain": Checkpoint("no files of sentence-transformers: mean, not normalised", BERT),
    "bert-score-1": Checkpoint(
        "cross-encoder with one label", dict(BERT, architectures=["BertForSequenceClassification"], hidden_size=64,
                                             num_attention_heads=4, id2label={"0": "LABEL_0"}, label2id={"LABEL_0": 0})),
    "bert-score-3": Checkpoint(
        "classifier with three labels, one token type, float16",
        dict(BERT, architectures=["BertForSequenceClassification"], type_vocab_size=1,
             id2label={"0": "contradiction", "1": "neutral", "2": "entailment"},
             label2id={"contradiction": 0, "neutral": 1, "entailment": 2}), dtype="F16"),
    "llama-fp8-static": Checkpoint(
        "e4m3 with a scale for each matrix and static scales of activations, as vLLM reads them",
        dict(LLAMA, hidden_size=64, intermediate_size=96, quantization_config=dict(
            quant_method="fp8", activation_scheme="static", ignored_layers=["lm_head"])),
        fp8=Fp8("tensor", static=True)),
    "qwen3-fp8-block": Checkpoint(
        "e4m3 with scales of 128 x 128 elements, as DeepSeek and Qwen publish them",
        dict(QWEN3, hidden_size=128, intermediate_size=256, head_dim=64, num_attention_heads=2, num_key_value_heads=2,
             num_hidden_layers=1, quantization_config=dict(
                 quant_method="fp8", activation_scheme="dynamic", weight_block_size=[128, 128],
                 modules_to_not_convert=["lm_head"])),
        fp8=Fp8("block", scale="weight_scale_inv", checked=True)),
    "llama-fp8-channel": Checkpoint(
        "compressed-tensors: e4m3 with bfloat16 scales of rows, scales of activations by token, scales of keys and values; "
        "one layer's down projection is left alone",
        dict(LLAMA, hidden_size=64, intermediate_size=96, quantization_config=dict(
            quant_method="compressed-tensors", format="float-quantized", quantization_status="compressed",
            config_groups=dict(group_0=dict(
                targets=["Linear"], weights=e4m3("channel"),
                input_activations=dict(e4m3("token"), dynamic=True))),
            kv_cache_scheme=e4m3("tensor"), ignore=["lm_head", "re:.*layers\\.1\\.mlp\\.down_proj$"])),
        fp8=Fp8("row", dtype=torch.bfloat16, cache=True, alone=("lm_head", "model.layers.1.mlp.down_proj"))),
}


def draw(name, shape, tied, generator):
    """A weight, wide as the module's text says. A tied embedding makes the logits too."""
    normal = torch.randn(shape, generator=generator)
    if "norm" in name.lower() and name.endswith("weight"):
        return 1 + 0.2 * normal
    if name.endswith("bias"):
        return 0.3 * normal
    if "embed" in name:
        return normal * (3 / shape[-1] ** 0.5 if tied else 1)
    fan_in = shape[-1]
    if "lm_head" in name or "classifier" in name:
        return normal * 3 / fan_in**0.5
    return normal * 1.3 / fan_in**0.5


def model_class(config):
    name = config["architectures"][0]
    if name == "BertModel":
        return BertModel
    return AutoModelForSequenceClassification if name.startswith("Bert") else AutoModelForCausalLM


def write(directory, checkpoint, seed):
    """config.json, the files of sentence-transformers, and random weights."""
    directory.mkdir(parents=True)
    put(directory / "config.json", checkpoint.config)
    if checkpoint.sentence:
        write_sentence_files(directory, checkpoint.sentence)
    config = AutoConfig.from_pretrained(directory)
    tied = model_class(checkpoint.config) is AutoModelForCausalLM and config.tie_word_embeddings
    with torch.device("meta"):
        empty = (BertModel(config) if checkpoint.config["architectures"] == ["BertModel"]
                 else model_class(checkpoint.config).from_config(config))
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, parameter in empty.named_parameters():
        norm = "norm" in name.lower()
        dtype = DTYPES[checkpoint.norm_dtype if norm and checkpoint.norm_dtype else checkpoint.dtype]
        tensors[name] = draw(name, parameter.shape, tied, generator).to(dtype).contiguous()
    if checkpoint.legacy:
        tensors = legacy_names(tensors, config, generator)
    if checkpoint.fp8:
        tensors = narrow(tensors, checkpoint.fp8, config, generator)
    write_shards(directory, tensors, checkpoint.shards)


def narrow(tensors, fp8, config, generator):
    """Matrices as e4m3, by scales that leave up to half of the format's range unused, each another part."""
    stored = {}
    for name, weight in tensors.items():
        if not fp8.narrows(name):
            stored[name] = weight
            continue
        module = name.removesuffix(".weight")
        weight = weight.float()
        largest = {"tensor": lambda: weight.abs().max(), "row": lambda: weight.abs().amax(1, keepdim=True),
                   "block": lambda: blocks(weight).abs().amax((1, 3))}[fp8.kind]()
        scale = (largest / 448 * (1 + torch.rand(largest.shape, generator=generator))).to(fp8.dtype)
        stored[name] = (weight / spread(scale.float(), weight.shape)).to(torch.float8_e4m3fn)
        stored[f"{module}.{fp8.scale}"] = scale
        if fp8.static:
            # Projections of one input have one scale, as a calibration finds them.
            inputs = {"o_proj": 3.0, "down_proj": 12.0}.get(module.split(".")[-1], 5.0)
            stored[f"{module}.input_scale"] = torch.tensor(inputs / 448)
    if fp8.cache:
        for layer in range(config.num_hidden_layers):
            stored[f"model.layers.{layer}.self_attn.k_scale"] = torch.tensor(0.03 * (1 + layer))
            stored[f"model.layers.{layer}.self_attn.v_scale"] = torch.tensor(0.02 * (1 + layer))
    return {name: tensor.contiguous() for name, tensor in stored.items()}


def blocks(weight):
    """[blocks, 128, blocks, 128], padded with zeros."""
    rows, columns = (-(-size // 128) * 128 for size in weight.shape)
    padded = torch.zeros(rows, columns)
    padded[:weight.shape[0], :weight.shape[1]] = weight
    return padded.reshape(rows // 128, 128, columns // 128, 128)


def spread(scale, shape):
    """A matrix's scales, one for each element."""
    if scale.dim() == 2 and scale.shape[1] * 128 >= shape[1] and scale.shape[0] < shape[0]:
        scale = scale.repeat_interleave(128, 0).repeat_interleave(128, 1)[:shape[0], :shape[1]]
    return scale.expand(shape)


def widened(directory, fp8, to):
    """The checkpoint with float32 matrices, each element times its scale."""
    config = json.loads((directory / "config.json").read_text())
    del config["quantization_config"]
    put(to / "config.json", config)
    tensors = load_file(directory / "model.safetensors")
    wide = {name: tensor for name, tensor in tensors.items() if not name.endswith("scale") and "_scale" not in name}
    for name, tensor in wide.items():
        if tensor.dtype == torch.float8_e4m3fn:
            scale = tensors[f"{name.removesuffix('.weight')}.{fp8.scale}"].float()
            wide[name] = tensor.float() * spread(scale, tensor.shape)
    save_file(wide, to / "model.safetensors", metadata={"format": "pt"})


def load_fp8(directory, fp8):
    """The model of the widened weights; those that transformers itself makes of the files must be the same."""
    with tempfile.TemporaryDirectory() as folder:
        widened(directory, fp8, Path(folder))
        model = load(Path(folder))
    if fp8.checked:
        itself = load(directory)
        for name, parameter in model.named_parameters():
            assert torch.equal(itself.get_parameter(name), parameter), f"{directory.name}: {name} is another to transformers"
    return model


def legacy_names(tensors, config, generator):
    """What a BERT pretraining checkpoint of the first years looks like."""
    old = {f"bert.{name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta')}": tensor
           for name, tensor in tensors.items()}
    old["bert.embeddings.position_ids"] = torch.arange(config.max_position_embeddings)[None]
    old["cls.predictions.bias"] = torch.randn(config.vocab_size, generator=generator)
    old["cls.seq_relationship.weight"] = torch.randn((2, config.hidden_size), generator=generator)
    return old


def write_shards(directory, tensors, count):
    if count == 1:
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
        return
    names = list(tensors)
    weight_map = {}
    for i in range(count):
        file = f"model-{i + 1:05}-of-{count:05}.safetensors"
        part = {name: tensors[name] for name in names[i::count]}
        save_file(part, directory / file, metadata={"format": "pt"})
        weight_map.update({name: file for name in part})
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    put(directory / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": weight_map})


def write_sentence_files(directory, sentence):
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")] + [("2_Normalize", "Normalize")] * sentence.get("normalize", False)
    put(directory / "modules.json", [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)])
    (directory / "1_Pooling").mkdir()
    put(directory / "1_Pooling" / "config.json", sentence["pooling"])
    if "max_seq_length" in sentence:
        put(directory / "sentence_bert_config.json",
            {"max_seq_length": sentence["max_seq_length"], "do_lower_case": False})


def put(path, value, indent=1):
    path.write_text(json.dumps(value, indent=indent) + "\n")


def f32(values):
    """Little-endian float32 in base64: exact, and a third of the digits' size."""
    return base64.b64encode(np.ascontiguousarray(values.detach().numpy(), dtype="<f4").tobytes()).decode()


def load(directory, changes=None):
    """The model as transformers reads it, in float32; `changes` replace fields of its configuration."""
    fields = json.loads((directory / "config.json").read_text())
    config = None
    if changes is not None:
        config = AutoConfig.for_model(**{k: v for k, v in dict(fields, **changes).items() if k != "architectures"})
    model, report = model_class(fields).from_pretrained(
        directory, config=config, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    if changes is None:
        missing = [name for name in report["missing_keys"] if "lm_head" not in name]
        assert not missing and not report["mismatched_keys"], report
    return model.eval()


def decoder_golden(model, vocab, generator):
    cases = []
    for length in LENGTHS:
        for _ in range(200):
            ids = torch.randint(3, vocab, (1, length), generator=generator)
            logits = model(ids).logits[0]
            case = {"input_ids": ids[0].tolist()}
            # Every position of short prompts, the last four of long ones.
            case["positions"] = list(range(length)) if length <= 5 else list(range(length - 4, length))
            case["logits"] = [f32(logits[p]) for p in case["positions"]]
            if length not in (5, 17, 90):
                break
            tokens, gap = greedy(model, ids)
            if gap > SMALLEST_GAP:
                case.update(greedy=tokens, smallest_gap=round(gap, 4))
                break
        else:
            raise SystemExit(f"no prompt of {length} tokens with a clear greedy continuation")
        cases.append(case)
    check_batch(model, cases)
    return {"logits": "little-endian float32 in base64, a row of the vocabulary for each of positions", "cases": cases}


def greedy(model, ids):
    """The continuation, past end tokens, and the least distance between the two highest logits on its way."""
    gap, tokens = float("inf"), []
    for _ in range(CONTINUATION):
        top = model(ids).logits[0, -1].topk(2)
        gap = min(gap, (top.values[0] - top.values[1]).item())
        tokens.append(top.indices[0].item())
        ids = torch.cat([ids, top.indices[:1][None]], dim=1)
    return tokens, gap


def check_batch(model, cases):
    """All prompts in one left-padded batch give what each gave alone."""
    longest = max(LENGTHS)
    ids = torch.zeros((len(cases), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, case in enumerate(cases):
        ids[row, longest - len(case["input_ids"]):] = torch.tensor(case["input_ids"])
        mask[row, longest - len(case["input_ids"]):] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(ids, attention_mask=mask, position_ids=positions).logits[:, -1]
    for row, case in enumerate(cases):
        alone = np.frombuffer(base64.b64decode(case["logits"][-1]), dtype="<f4")
        assert np.abs(alone - logits[row].numpy()).max() < 1e-4, "batch and alone differ"


def encoder_golden(model, directory, config, generator):
    cases = []
    types = config["type_vocab_size"]
    for length in LENGTHS:
        ids = torch.randint(3, config["vocab_size"], (1, length), generator=generator)
        kinds = (torch.arange(length)[None] >= max(1, length // 3)).long() * (types - 1)
        cases.append({"input_ids": ids[0].tolist(), "token_type_ids": kinds[0].tolist()})
        inputs = dict(input_ids=ids, token_type_ids=kinds, attention_mask=torch.ones_like(ids))
        cases[-1].update(encoder_outputs(model, directory, inputs))
    return {"embedding": "little-endian float32 in base64", "hidden": "last hidden state of the first and the last token, likewise", "cases": cases}


def encoder_outputs(model, directory, inputs):
    if not isinstance(model, BertModel):
        return {"scores": [float(f"{x:.7g}") for x in model(**inputs).logits[0].tolist()]}
    hidden = model(**inputs).last_hidden_state
    # The encoder of sentence-transformers without its files is followed by mean pooling.
    pooling = Pooling.load(str(directory / "1_Pooling")) if (directory / "1_Pooling").exists() else Pooling(hidden.shape[-1])
    features = {"token_embeddings": hidden, "attention_mask": inputs["attention_mask"]}
    vector = pooling(features)["sentence_embedding"][0]
    if (directory / "modules.json").exists() and "Normalize" in (directory / "modules.json").read_text():
        vector = torch.nn.functional.normalize(vector, dim=0)
    return {"embedding": f32(vector), "hidden": [f32(hidden[0, 0]), f32(hidden[0, -1])]}


def check_effect(directory, checkpoint, model):
    """Each option under test moves the output of a long input."""
    ids = torch.randint(3, 200, (1, 90), generator=torch.Generator().manual_seed(1))
    output = lambda m: m(ids)[0]
    for changes in checkpoint.without:
        moved = (output(model) - output(load(directory, changes))).abs().max().item()
        assert moved > EFFECT, f"{directory.name}: {changes} changes nothing ({moved})"


# Published rotary embeddings: Llama 2, Llama 3.1 8B, Qwen2.5 7B with its long context, gpt-oss' untruncated YaRN.
ROPES = {
    "plain": dict(rope_type="default", rope_theta=10000.0),
    "linear": dict(rope_type="linear", rope_theta=10000.0, factor=3.0),
    "llama3": dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=8192),
    "yarn": dict(rope_type="yarn", rope_theta=1000000.0, factor=4.0, original_max_position_embeddings=32768),
    "yarn-untruncated": dict(rope_type="yarn", rope_theta=150000.0, factor=32.0, original_max_position_embeddings=4096,
                             beta_fast=32.0, beta_slow=1.0, truncate=False),
}


def rope_golden():
    """The rotary embeddings of full-size models, which the small ones hardly reach."""
    cases = []
    for name, parameters in ROPES.items():
        config = LlamaConfig(head_dim=128, max_position_embeddings=131072, rope_parameters=dict(parameters))
        rope = LlamaRotaryEmbedding(config)
        positions = [0, 1, 17, 1000]
        cos, sin = rope(torch.zeros(1), torch.tensor([positions]))
        cases.append({"name": name, "config": {"max_position_embeddings": 131072, "rope_parameters": parameters},
                      "frequencies": f32(rope.inv_freq), "positions": positions,
                      "cos": [f32(row[:64]) for row in cos[0]], "sin": [f32(row[:64]) for row in sin[0]]})
    put(ROOT / "rope.json", {"head_dim": 128, "cases": cases})


@torch.no_grad()
def main(chosen):
    torch.set_num_threads(1)
    for index, (name, checkpoint) in enumerate(CHECKPOINTS.items()):
        if chosen and name not in chosen:
            continue
        directory = ROOT / name
        shutil.rmtree(directory, ignore_errors=True)
        write(directory, checkpoint, seed=1000 + index)
        model = load_fp8(directory, checkpoint.fp8) if checkpoint.fp8 else load(directory)
        check_effect(directory, checkpoint, model)
        generator = torch.Generator().manual_seed(2000 + index)
        if model_class(checkpoint.config) is AutoModelForCausalLM:
            golden = decoder_golden(model, checkpoint.config["vocab_size"], generator)
        else:
            golden = encoder_golden(model, directory, checkpoint.config, generator)
        golden = {"about": checkpoint.about + "; transformers in float32 from the stored weights", **golden}
        # One value a line makes long files; one case a line can still be read.
        text = json.dumps(golden).replace('"cases": [', '"cases": [\n').replace('}, {"input_ids"', '},\n{"input_ids"')
        (directory / "golden.json").write_text(text + "\n")
        print(f"{name}: {sum(f.stat().st_size for f in directory.rglob('*') if f.is_file()) // 1000} KB", flush=True)
    if not chosen:
        rope_golden()


if __name__ == "__main__":
    main(sys.argv[1:])
