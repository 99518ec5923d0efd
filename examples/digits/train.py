"""Train a digit classifier whose components each have an optimizer of their own; resume it exactly.

    python examples/digits/train.py
    python examples/digits/train.py --resume
    torchrun --nproc-per-node 2 examples/digits/train.py --run-dir runs/digits-2

The data are scikit-learn's handwritten digits, which come with the package. Everything random
follows from the seed and the number of the step, so that a run which was killed ends, resumed, with
the very same weights as one that was not.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from model import DigitClassifier
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, distributed, nn
from tqdm import tqdm

from optim_core import (
    CheckpointError,
    ComponentOptimizers,
    build_optimizers,
    load_checkpoint,
    save_checkpoint,
)

HERE = Path(__file__).parent
log = logging.getLogger("digits")


@dataclass(frozen=True)
class Data:
    """Images of shape (n, 1, 8, 8) with values from 0 to 1, and their labels."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def read_settings(path: Path) -> dict[str, int]:
    """The section `training` of the configuration."""
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings = settings.get("training") if isinstance(settings, dict) else None
    names = ("epochs", "batch_size", "checkpoint_every", "seed")
    if not isinstance(settings, dict) or not all(isinstance(settings.get(name), int) for name in names):
        raise ValueError(f"{path}: needs a section 'training' with whole numbers for {', '.join(names)}")
    return settings


def load_data(device: torch.device) -> Data:
    digits = load_digits()
    split = train_test_split(digits.images, digits.target, test_size=360, stratify=digits.target, random_state=0)
    train_images, test_images = (
        torch.tensor(images / 16, dtype=torch.float32).unsqueeze(1).to(device) for images in split[:2]
    )
    train_labels, test_labels = (torch.tensor(labels, dtype=torch.int64).to(device) for labels in split[2:])
    return Data(train_images, train_labels, test_images, test_labels)


def batch_indices(step: int, count: int, batch_size: int, seed: int) -> Tensor:
    """The images of update number `step`: a shuffle for each epoch, the rest of an epoch left out."""
    epoch, position = divmod(step, count // batch_size)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed + epoch))
    return order[position * batch_size : (position + 1) * batch_size]


def accuracy(model: nn.Module, optimizers: ComponentOptimizers, data: Data) -> float:
    """The fraction of held-out digits that is right, with the weights for evaluation."""
    model.eval()
    with optimizers.eval_mode(), torch.no_grad():
        right = model(data.test_images).argmax(dim=1) == data.test_labels
    model.train()
    return float(right.float().mean())


def digest(model: nn.Module) -> str:
    """A fingerprint of every weight's every bit."""
    fingerprint = hashlib.sha256()
    for name, value in model.state_dict().items():
        fingerprint.update(name.encode())
        fingerprint.update(value.cpu().contiguous().numpy().tobytes())
    return fingerprint.hexdigest()[:16]


def train(arguments: argparse.Namespace, rank: int, world_size: int, device: torch.device) -> None:
    settings = read_settings(arguments.config)
    seed, batch_size = settings["seed"], settings["batch_size"]
    data = load_data(device)
    torch.manual_seed(seed)
    model: nn.Module = DigitClassifier().to(device)
    if world_size > 1:
        model = nn.parallel.DistributedDataParallel(model)
    optimizers = build_optimizers(model, arguments.config)
    log.info("\n%s", optimizers.summary())

    first_step = 0
    if arguments.resume:
        try:
            first_step = load_checkpoint(arguments.run_dir, model, optimizers)["step"]
            log.info("resuming at step %d", first_step)
        except CheckpointError as error:
            if (arguments.run_dir / "checkpoint.json").exists():
                raise
            log.info("starting from the beginning: %s", error)
    steps_per_epoch = len(data.train_images) // batch_size
    total_steps = settings["epochs"] * steps_per_epoch
    started = time.perf_counter()
    loss_sum, loss_count = torch.zeros((), device=device), 0
    bar = tqdm(
        range(first_step, total_steps), initial=first_step, total=total_steps, disable=None if rank == 0 else True
    )
    parent = os.getppid()
    for step in bar:
        if world_size > 1 and os.getppid() != parent:
            log.error("the process that started this one is gone: stopping at step %d", step)
            return
        torch.manual_seed((seed * total_steps + step) * world_size + rank)
        mine = batch_indices(step, len(data.train_images), batch_size, seed)[rank::world_size].to(device)
        optimizers.zero_grad()
        loss = nn.functional.cross_entropy(model(data.train_images[mine]), data.train_labels[mine])
        loss.backward()
        rates = optimizers.learning_rates()
        optimizers.step()

        loss_sum, loss_count = loss_sum + loss.detach(), loss_count + 1
        done = step + 1
        if done % steps_per_epoch == 0:
            shown = "  ".join(f"{name} {rate:.2e}" for name, rate in rates.items())
            right = accuracy(model, optimizers, data)
            log.info(
                "epoch %2d  loss %.4f  accuracy %.2f %%  lr: %s",
                done // steps_per_epoch,
                loss_sum.item() / loss_count,
                100 * right,
                shown,
            )
            loss_sum, loss_count = torch.zeros_like(loss_sum), 0
        if rank == 0 and (done % settings["checkpoint_every"] == 0 or done == total_steps):
            save_checkpoint(arguments.run_dir, model, optimizers, extra={"step": done})
    right = accuracy(model, optimizers, data)
    if world_size > 1:
        distributed.barrier()
    log.info(
        "held-out accuracy %.2f %% after %d updates; %.1f s; weights %s",
        100 * right,
        total_steps,
        time.perf_counter() - started,
        digest(model),
    )


class _BarHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes log lines above the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=HERE / "config.yaml", help="default: %(default)s")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/digits"), help="checkpoints; default: %(default)s")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint, if there is one")
    arguments = parser.parse_args()
    world_size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    logging.basicConfig(
        level=logging.INFO if rank == 0 else logging.WARNING, format="%(message)s", handlers=[_BarHandler()]
    )
    if not arguments.resume and (arguments.run_dir / "checkpoint.json").exists():
        parser.error(f"{arguments.run_dir} holds a checkpoint: continue it with --resume, or name another --run-dir")
    device = (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if torch.cuda.is_available()
        else torch.device("cpu")
    )
    if device.type == "cuda":
        torch.cuda.set_device(device)
        # Resuming is exact only where the kernels are.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    if world_size > 1:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        train(arguments, rank, world_size, device)
    except KeyboardInterrupt:
        log.error("interrupted; go on with --resume")
        return 130
    except (CheckpointError, OSError, ValueError, yaml.YAMLError) as error:
        log.error("%s", error)
        return 1
    finally:
        if world_size > 1:
            distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
