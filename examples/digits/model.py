"""The model: a frozen filter bank, a convolutional backbone, an embedder and a classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DigitClassifier(nn.Module):
    """Classifies images of shape (batch, 1, 8, 8) into ten digits.

    Each child module is a component with an optimizer of its own in config.yaml.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _FilterBank()
        self.backbone = nn.Sequential(
            nn.Conv2d(5, 32, 3, padding=1),
            nn.GELU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.GELU(),
            nn.Flatten(),
        )
        self.embedder = nn.Sequential(nn.Linear(64 * 4 * 4, 64), nn.LayerNorm(64), nn.GELU(), nn.Dropout(0.2))
        self.classifier = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (batch, 10)."""
        logits: Tensor = self.classifier(self.embedder(self.backbone(self.stem(images))))
        return logits


class _FilterBank(nn.Module):
    """The image and its edges in four directions; fixed filters, as a frozen pretrained part would be."""

    def __init__(self) -> None:
        super().__init__()
        horizontal = torch.tensor([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]]) / 4
        diagonal = torch.tensor([[2.0, 1.0, 0.0], [1.0, 0.0, -1.0], [0.0, -1.0, -2.0]]) / 4
        identity = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
        filters = [identity, horizontal, horizontal.T, diagonal, diagonal.flip(0)]
        self.weight = nn.Parameter(torch.stack(filters).unsqueeze(1), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.conv2d(images, self.weight, padding=1)
