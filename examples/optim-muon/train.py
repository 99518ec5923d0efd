"""Train a small transformer to sort numbers, with the optimizer that a configuration names.

    python train.py                  # Muon and AdamW, as in config.yaml
    python train.py --adamw-only     # AdamW for every parameter, with the same schedule

The data are made here: eight numbers, a separator, and the same numbers in order, which the model has to
predict one by one. The exit status is 1 where it hasn't learned to.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from optim_core import build_optimizers
from torch import Tensor, nn

NUMBERS, LENGTH, BATCH = 32, 8, 64
LEARNED = 0.95
SEPARATOR = NUMBERS
log = logging.getLogger("train")


class Sorter(nn.Module):
    """A decoder of two layers: scores of the next number at every position."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.numbers = nn.Embedding(NUMBERS + 1, width)
        self.positions = nn.Embedding(2 * LENGTH, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, NUMBERS)

    def forward(self, sequence: Tensor) -> Tensor:
        """Scores of shape (batch, length, numbers), for a sequence of shape (batch, length)."""
        length = sequence.shape[1]
        hidden = self.numbers(sequence) + self.positions.weight[:length]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        scores: Tensor = self.head(self.layers(hidden, mask=mask, is_causal=True))
        return scores


def batch(seed: int, size: int) -> tuple[Tensor, Tensor]:
    """Numbers, a separator and all but the last of the numbers in order; and the numbers in order."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(NUMBERS, (size, LENGTH), generator=generator)
    ordered = numbers.sort(dim=1).values
    return torch.cat([numbers, torch.full((size, 1), SEPARATOR), ordered[:, :-1]], dim=1), ordered


def loss_and_accuracy(model: nn.Module, inputs: Tensor, ordered: Tensor) -> tuple[Tensor, float]:
    """The cross-entropy, and the fraction of numbers that are predicted right."""
    scores = model(inputs)[:, LENGTH:]
    right = (scores.argmax(dim=2) == ordered).float().mean().item()
    return nn.functional.cross_entropy(scores.flatten(0, 1), ordered.flatten()), right


def train(configuration: dict[str, Any], seed: int) -> float:
    """Train as configured; returns the accuracy on numbers that were not trained on."""
    torch.manual_seed(seed)
    model = nn.ModuleDict({"sorter": Sorter()})
    optimizers = build_optimizers(model, configuration)
    log.info("%s", optimizers.summary())
    for group in optimizers["sorter"].param_groups:
        log.info("%s: %d parameters", group["algorithm"], sum(p.numel() for p in group["params"]))
    steps = configuration["model"]["component_optims"]["sorter"]["params"]["total_steps"]
    held_out = batch(-1, 512)
    started = time.perf_counter()
    for step in range(steps):
        loss, _ = loss_and_accuracy(model["sorter"], *batch(seed * steps + step, BATCH))
        optimizers.zero_grad()
        torch.autograd.backward(loss)
        optimizers.step()
        if (step + 1) % 50 == 0:
            with torch.no_grad():
                test_loss, right = loss_and_accuracy(model["sorter"], *held_out)
            log.info("step %4d  loss %.4f  accuracy %.2f %%", step + 1, test_loss, 100 * right)
    log.info("%.1f s", time.perf_counter() - started)
    return right


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("config.yaml"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--adamw-only", action="store_true", help="give every parameter to AdamW, to compare")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    configuration = yaml.safe_load(arguments.config.read_text(encoding="utf-8"))
    params = configuration["model"]["component_optims"]["sorter"]["params"]
    if arguments.adamw_only:
        params["adamw_names"] = ["*"]
    # Matrices as small as these are done before several threads have begun.
    torch.set_num_threads(1)
    return 0 if train(configuration, arguments.seed) > LEARNED else 1


if __name__ == "__main__":
    sys.exit(main())
