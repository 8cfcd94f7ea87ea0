"""MiniLM's encoder (BERT, Devlin et al., 2019), for sentences of one length."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from modelsurgeon.torch.export import export

WIDTH, HEADS, INNER, LAYERS = 384, 12, 1536, 6
VOCABULARY, POSITIONS, KINDS = 30522, 512, 2
EPSILON = 1e-12


class Layer(nn.Module):
    """Attention, then two dense layers, each part with a residual connection and layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.mixed = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.wide, self.narrow = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.first, self.second = (nn.LayerNorm(WIDTH, EPSILON) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self._heads(part(x)) for part in (self.query, self.key, self.value))
        weights = (q @ k.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5).softmax(dim=-1)
        x = self.first(x + self.mixed((weights @ v).transpose(1, 2).flatten(2)))
        return self.second(x + self.narrow(functional.gelu(self.wide(x))))

    @staticmethod
    def _heads(x: Tensor) -> Tensor:
        return x.unflatten(2, (HEADS, WIDTH // HEADS)).transpose(1, 2)


class Encoder(nn.Module):
    """Token ids `(N, T)` to sentence embeddings `(N, 384)` of norm 1."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(POSITIONS, WIDTH)
        self.kinds = nn.Embedding(KINDS, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, EPSILON)
        self.layers = nn.Sequential(*(Layer() for _ in range(LAYERS)))

    def forward(self, ids: Tensor) -> Tensor:
        places = self.places.weight[: ids.shape[1]]
        x = self.layers(self.norm(self.words(ids) + places + self.kinds.weight[0]))
        return functional.normalize(x.mean(dim=1), dim=1)


OURS = {
    "embeddings.word_embeddings": "words",
    "embeddings.position_embeddings": "places",
    "embeddings.token_type_embeddings": "kinds",
    "embeddings.LayerNorm": "norm",
    "attention.self.": "",
    "attention.output.dense": "mixed",
    "attention.output.LayerNorm": "first",
    "intermediate.dense": "wide",
    "output.dense": "narrow",
    "output.LayerNorm": "second",
    "encoder.layer.": "layers.",
}


def exported(weights: Path, length: int) -> ir.Model:
    """The encoder with published weights as an ONNX model with a dynamic batch."""
    net = Encoder()
    stored = {_name(name): tensor for name, tensor in load_file(weights).items()}
    net.load_state_dict({name: stored[name] for name in net.state_dict()})
    return export(net.eval(), {"ids": torch.zeros(2, length, dtype=torch.int64)}, dynamic_batch=True)


def _name(name: str) -> str:
    """Our name of a published weight."""
    for theirs, ours in OURS.items():
        name = name.replace(theirs, ours)
    return name
