"""Label-correlation heads from the literature, written from their papers in their published sizes.

All take the last feature map `(batch, channels, height, width)` and give logits `(batch, labels)`; the default of
`size` is the published width. Label vectors that the papers take from word embeddings are random here, and so is
ML-GCN's adjacency unless it is given: they change no cost. Two differ from their authors' code: Query2Label, which here
adds the positions and takes its queries once, at its beginning, and has a norm behind the encoder; and C-Tran, whose
labels are all unknown here, in training too.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assocformer_hf.model.association import AssociationHead, AssociationScores


class LinearHead(nn.Module):
    """Average pooling and a linear layer."""

    def __init__(self, channels: int, labels: int):
        super().__init__()
        self.linear = nn.Linear(channels, labels)

    def forward(self, feature_map: Tensor) -> Tensor:
        return self.linear(feature_map.mean((2, 3)))


class AssocFormerHead(nn.Module):
    """Ours, behind average pooling."""

    def __init__(self, channels: int, labels: int):
        super().__init__()
        self.head = AssociationHead(channels, labels)

    def forward(self, feature_map: Tensor) -> Tensor:
        return self.head(feature_map.mean((2, 3))).logits


class LiteralAssociationHead(AssociationHead):
    """Our head by eq. 4 to 7 as printed: the convolutions run, and A is multiplied by M."""

    def forward(self, features: Tensor) -> AssociationScores:
        rows, module = features.unsqueeze(1), self.association
        keys, messages = nn.Conv1d.forward(module.key, rows), nn.Conv1d.forward(module.message, rows)
        association = torch.sigmoid(keys @ keys.mT)
        first = nn.Conv1d.forward(module.readout, association @ messages).squeeze(-1)
        second = self.embedding(features)
        return AssociationScores(0.5 * first + 0.5 * second, association, None, first, second)


class LiteralAssocFormerHead(AssocFormerHead):
    """That behind average pooling."""

    def __init__(self, channels: int, labels: int):
        super().__init__(channels, labels)
        self.head = LiteralAssociationHead(channels, labels)


class MLGCN(nn.Module):
    """ML-GCN (Chen et al., CVPR 2019): two graph convolutions over 300-d label vectors make the classifiers."""

    def __init__(self, channels: int, labels: int, size: int = 1024, adjacency: Tensor | None = None):
        super().__init__()
        self.register_buffer("vectors", torch.randn(labels, 300))
        self.register_buffer("adjacency", torch.rand(labels, labels) / labels if adjacency is None else adjacency)
        self.first = nn.Parameter(torch.randn(300, size) / size**0.5)
        self.second = nn.Parameter(torch.randn(size, channels) / channels**0.5)

    def forward(self, feature_map: Tensor) -> Tensor:
        nodes = F.leaky_relu(self.adjacency @ (self.vectors @ self.first), 0.2)
        classifiers = self.adjacency @ (nodes @ self.second)
        return feature_map.amax((2, 3)) @ classifiers.T


def label_graph(targets: Tensor, threshold: float = 0.4, neighbours: float = 0.2) -> Tensor:
    """ML-GCN's adjacency `(labels, labels)` of multi-hot targets `(images, labels)`.

    P(j | i) becomes 1 from `threshold` on, a label's neighbours then share the weight `neighbours`, it keeps the rest
    of 1 itself, and the whole is scaled by the root of the degrees on both sides: the paper's eq. 7 and 8.
    """
    joint = targets.T @ targets
    linked = (joint / joint.diagonal().unsqueeze(1) >= threshold).float().fill_diagonal_(0)
    weighted = linked * neighbours / (linked.sum(1, keepdim=True) + 1e-6) + (1 - neighbours) * torch.eye(len(joint))
    scale = weighted.sum(1) ** -0.5
    return (weighted * scale).T * scale


class ADDGCN(nn.Module):
    """ADD-GCN (Ye et al., ECCV 2020): attention maps make label nodes, over a static and a dynamic graph."""

    def __init__(self, channels: int, labels: int, size: int = 1024):
        super().__init__()
        self.attention = nn.Conv2d(channels, labels, 1, bias=False)
        self.transform = nn.Conv2d(channels, size, 1)
        self.static_adjacency = nn.Conv1d(labels, labels, 1, bias=False)
        self.static_weight = nn.Conv1d(size, size, 1)
        self.context = nn.Conv1d(size, size, 1)
        self.context_norm = nn.BatchNorm1d(size)
        self.dynamic_adjacency = nn.Conv1d(2 * size, labels, 1)
        self.dynamic_weight = nn.Conv1d(size, size, 1)
        self.classifier = nn.Conv1d(size, labels, 1)

    def forward(self, feature_map: Tensor) -> Tensor:
        maps = self.attention(feature_map)
        content = self.transform(feature_map).flatten(2) @ maps.flatten(2).sigmoid().mT  # (batch, size, labels)
        static = F.leaky_relu(self.static_adjacency(content.mT), 0.2).mT
        nodes = content + F.leaky_relu(self.static_weight(static), 0.2)
        context = F.leaky_relu(self.context_norm(self.context(nodes.mean(2, keepdim=True))), 0.2)
        joined = torch.cat([context.expand_as(nodes), nodes], dim=1)
        adjacency = self.dynamic_adjacency(joined).sigmoid()
        nodes = F.leaky_relu(self.dynamic_weight(F.leaky_relu(nodes @ adjacency, 0.2)), 0.2)
        scores = self.classifier(content + nodes).diagonal(dim1=1, dim2=2)
        return (scores + maps.flatten(2).amax(2)) / 2


class MLDecoder(nn.Module):
    """ML-Decoder (Ridnik et al., WACV 2023): one layer of cross-attention from up to 100 group queries, 768-d."""

    def __init__(self, channels: int, labels: int, size: int = 768, groups: int = 100):
        super().__init__()
        groups, hidden = min(groups, labels), size * 8 // 3  # 2,048 in the published size
        self.labels, factor = labels, math.ceil(labels / groups)
        self.embedding = nn.Linear(channels, size)
        self.register_buffer("queries", torch.randn(groups, size))
        self.attention = nn.MultiheadAttention(size, 8, dropout=0.1, batch_first=True)
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(3))
        self.mlp = nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Dropout(0.1), nn.Linear(hidden, size))
        self.dropout = nn.Dropout(0.1)
        self.weight = nn.Parameter(torch.randn(groups, size, factor) / size**0.5)
        self.bias = nn.Parameter(torch.zeros(labels))

    def forward(self, feature_map: Tensor) -> Tensor:
        tokens = F.relu(self.embedding(feature_map.flatten(2).mT))
        queries = self.queries.expand(len(tokens), -1, -1)
        queries = self.norms[0](queries + self.dropout(queries))
        attended = self.attention(queries, tokens, tokens, need_weights=False)[0]
        queries = self.norms[1](queries + self.dropout(attended))
        queries = self.norms[2](queries + self.dropout(self.mlp(queries)))
        logits = torch.einsum("bgd,gdf->bgf", queries, self.weight).flatten(1)
        return logits[:, : self.labels] + self.bias


class Query2Label(nn.Module):
    """Query2Label (Liu et al., 2021): one encoder and two decoder layers of size 2048 with a query for each label."""

    def __init__(self, channels: int, labels: int, size: int = 2048):
        super().__init__()
        self.projection = nn.Conv2d(channels, size, 1)
        self.transformer = nn.Transformer(
            size, 4, num_encoder_layers=1, num_decoder_layers=2, dim_feedforward=4 * size, batch_first=True
        )
        self.queries = nn.Parameter(torch.randn(labels, size))
        self.weight = nn.Parameter(torch.randn(labels, size) / size**0.5)
        self.bias = nn.Parameter(torch.zeros(labels))

    def forward(self, feature_map: Tensor) -> Tensor:
        projected = self.projection(feature_map)
        tokens = (projected + sine_positions(projected)).flatten(2).mT
        decoded = self.transformer(tokens, self.queries.expand(len(tokens), -1, -1))
        return (decoded * self.weight).sum(-1) + self.bias


def sine_positions(feature_map: Tensor) -> Tensor:
    """DETR's encoding of rows and columns `(channels, height, width)` for a map `(batch, channels, height, width)`."""
    channels, height, width = feature_map.shape[1:]
    power = torch.arange(channels // 4, device=feature_map.device) / (channels // 4)
    angles = [
        2 * math.pi * (torch.arange(1, side + 1, device=feature_map.device) / side).unsqueeze(1) / 10000**power
        for side in (height, width)
    ]
    rows, columns = [torch.cat([angle.sin(), angle.cos()], dim=1).T for angle in angles]
    return torch.cat([rows.unsqueeze(2).expand(-1, -1, width), columns.unsqueeze(1).expand(-1, height, -1)])


class CTran(nn.Module):
    """C-Tran (Lanchantin et al., CVPR 2021): three encoder layers over image tokens and label embeddings together."""

    def __init__(self, channels: int, labels: int, size: int = 2048):
        super().__init__()
        self.projection = nn.Conv2d(channels, size, 1)
        self.label_embedding = nn.Parameter(torch.randn(labels, size))
        self.state_embedding = nn.Parameter(torch.randn(1, size))
        self.norm = nn.LayerNorm(size)
        layer = nn.TransformerEncoderLayer(size, 4, dim_feedforward=size, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3)
        self.weight = nn.Parameter(torch.randn(labels, size) / size**0.5)
        self.bias = nn.Parameter(torch.zeros(labels))

    def forward(self, feature_map: Tensor) -> Tensor:
        tokens = self.projection(feature_map).flatten(2).mT
        labels = (self.label_embedding + self.state_embedding).expand(len(tokens), -1, -1)
        encoded = self.encoder(self.norm(torch.cat([tokens, labels], dim=1)))[:, tokens.shape[1] :]
        return (encoded * self.weight).sum(-1) + self.bias


HEADS = {
    "AssocFormer": AssocFormerHead,
    "AssocFormer, literal convolutions": LiteralAssocFormerHead,
    "linear": LinearHead,
    "ML-GCN": MLGCN,
    "ADD-GCN": ADDGCN,
    "ML-Decoder": MLDecoder,
    "Query2Label": Query2Label,
    "C-Tran": CTran,
}
