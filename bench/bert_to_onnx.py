"""Export the synthetic BERT to ONNX, as a user would who serves it with onnxruntime.

    python -m venv venv && venv/bin/pip install torch transformers onnx onnxscript onnxruntime
    node bench/make-bert.ts
    venv/bin/python bench/bert_to_onnx.py

Two files: model.onnx straight from the exporter, and fused.onnx, which onnxruntime's own optimizer for transformers has
gone over (attention, layer norms and GELU become one node each). The benchmark measures both. Mean pooling and
normalization are part of the graph.
"""

from pathlib import Path

import torch
from onnxruntime.transformers.optimizer import optimize_model
from transformers import BertModel

directory = Path(__file__).parent.parent / ".cache" / "bench" / "bert-base"
output = directory / "onnx"


class Embedder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bert = BertModel.from_pretrained(
            directory / "f32", add_pooling_layer=False, attn_implementation="eager", torch_dtype=torch.float32
        )

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(mean, dim=-1)


model = Embedder().eval()
ids = torch.randint(5, 30522, (2, 128))
mask = torch.ones_like(ids)
output.mkdir(exist_ok=True)
torch.onnx.export(
    model,
    (ids, mask),
    output / "model.onnx",
    input_names=["input_ids", "attention_mask"],
    output_names=["embeddings"],
    dynamic_axes={"input_ids": {0: "batch", 1: "length"}, "attention_mask": {0: "batch", 1: "length"}},
    opset_version=17,
    dynamo=False,
)
config = model.bert.config
fused = optimize_model(
    str(output / "model.onnx"),
    model_type="bert",
    num_heads=config.num_attention_heads,
    hidden_size=config.hidden_size,
)
print("fused:", fused.get_fused_operator_statistics())
fused.save_model_to_file(str(output / "fused.onnx"))
