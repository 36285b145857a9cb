"""The heads that ours is compared with have their published shapes and sizes."""

import pytest
import torch

from benchmarks.peers import HEADS

D, C = 1536, 80
TRANSFORMER = 4 * (2048 * 2048 + 2048)  # attention: queries, keys, values, output


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


PARAMETERS = {
    "linear": linear(D, C),
    "AssocFormer": 2 * linear(D, C) + 2 * C * 4,
    "AssocFormer, literal convolutions": 2 * linear(D, C) + 2 * C * 4,
    "ML-GCN": 300 * 1024 + 1024 * D,
    "ADD-GCN": D * C + linear(D, 1024) + C * C + 3 * linear(1024, 1024) + 2 * 1024 + linear(2048, C) + linear(1024, C),
    "ML-Decoder": linear(D, 768) + 4 * linear(768, 768) + 6 * 768 + linear(768, 2048) + linear(2048, 768) + C * 768 + C,
    # An encoder layer, two decoder layers with two attentions each, and a norm behind each stack.
    "Query2Label": linear(D, 2048)
    + (TRANSFORMER + linear(2048, 8192) + linear(8192, 2048) + 4 * 2048)
    + 2 * (2 * TRANSFORMER + linear(2048, 8192) + linear(8192, 2048) + 6 * 2048)
    + 2 * 2 * 2048
    + 2 * C * 2048
    + C,
    # A norm of the embeddings, then three encoder layers.
    "C-Tran": linear(D, 2048)
    + 2 * 2048
    + 3 * (TRANSFORMER + 2 * linear(2048, 2048) + 4 * 2048)
    + (C + 1) * 2048
    + C * 2048
    + C,
}


LARGE = ("Query2Label", "C-Tran")


@pytest.mark.parametrize("name", HEADS)
def test_size(name):
    with torch.device("meta" if name in LARGE else "cpu"):
        head = HEADS[name](D, C)
        logits = head(torch.empty(2, D, 12, 12))
    assert logits.shape == (2, C)
    assert sum(parameter.numel() for parameter in head.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", [name for name in HEADS if name not in LARGE])
def test_every_weight_takes_part(name):
    head = HEADS[name](64, 7)
    head(torch.rand(2, 64, 3, 3)).square().sum().backward()
    assert [key for key, parameter in head.named_parameters() if parameter.grad is None] == []
