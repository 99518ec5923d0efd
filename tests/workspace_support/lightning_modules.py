"""Modules that Lightning trains, and the same training of three components by hand; needs Lightning."""

import lightning.pytorch as lightning
import pytest
import torch
from torch import nn

from optim_core import build_optimizers
from workspace_support.training_by_hand import PARAMS, SCHEDULE_FREE, STEPS, Plain, batch, loss_of, network, vector

EPOCHS, PER_EPOCH = 3, 4
WARNINGS = [
    # Lightning looks into a data loader with a function that a new PyTorch has replaced.
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    # Advice on worker processes, which four numbers don't need.
    pytest.mark.filterwarnings("ignore:The '\\w+_dataloader' does not have many workers"),
    # Many of these tests resume in a trainer that saves nothing itself.
    pytest.mark.filterwarnings(
        'ignore:Be aware that when using `ckpt_path`.*following callbacks. \\["ModelCheckpoint[^"]*"\\]\\.$'
    ),
]


class Watched(lightning.LightningModule):
    """A training whose batch is a function of the number of updates, and which notes its weights.

    Attributes:
        seen: the hook and the weights that it saw, by the number of updates then made, in order.
    """

    def __init__(self):
        super().__init__()
        self.seen = []

    def note(self, hook):
        updates = self.trainer.fit_loop.epoch_loop.batch_progress.total.ready
        self.seen.append((hook, updates, vector(self)))

    def weights_in(self, *hooks):
        return [(updates, weights) for hook, updates, weights in self.seen if hook in hooks]

    def on_train_batch_start(self, batch, index):
        # The batch that is ready is not an update yet.
        self.seen.append(("on_train_batch_start", self.trainer.global_step, vector(self)))

    def on_train_batch_end(self, outputs, batch, index):
        self.note("on_train_batch_end")

    def on_train_epoch_end(self):
        self.note("on_train_epoch_end")

    def on_sanity_check_start(self):
        self.note("on_sanity_check_start")

    def on_validation_start(self):
        self.note("on_validation_start")

    def validation_step(self, _, index):
        self.note("validation_step")

    def on_validation_epoch_end(self):
        self.note("on_validation_epoch_end")

    def test_step(self, batch, index):
        self.note("test_step")

    def predict_step(self, _, index):
        self.note("predict_step")
        return index

    def train_dataloader(self):
        return torch.utils.data.DataLoader(range(PER_EPOCH))

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


class Automatic(Watched):
    """One optimizer, automatic optimization."""

    def __init__(self, key=SCHEDULE_FREE, seed=0):
        super().__init__()
        self.save_hyperparameters()
        self.network = network(seed)

    def configure_optimizers(self):
        (optimizer,) = build_optimizers(
            self, {"network": {"type": self.hparams.key, "params": PARAMS[self.hparams.key]}}
        ).values()
        return optimizer

    def training_step(self, _, index):
        return loss_of(self.network, batch(self.global_step))


class Manual(Watched):
    """An optimizer for each of three components, manual optimization."""

    def __init__(self, seed=0):
        super().__init__()
        self.automatic_optimization = False
        self.parts = three_parts(seed)

    def configure_optimizers(self):
        return list(
            build_optimizers(self.parts, {key: {"type": key, "params": PARAMS[key]} for key in PARAMS}).values()
        )

    def training_step(self, _, index):
        optimizers = self.optimizers()
        # Each optimizer's step counts: three of them are one update here.
        loss = loss_of_three(self.parts, batch(self.global_step // 3))
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()


def three_parts(seed):
    torch.manual_seed(seed)
    return nn.ModuleDict(dict(zip(PARAMS, (nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)), strict=True)))


def loss_of_three(parts, batch):
    first, second, third = parts.values()
    return loss_of(lambda inputs: third(second(first(inputs).tanh()).tanh()), batch)


class RunOfThree:
    """`Run`, for the three components of `Manual`."""

    def __init__(self):
        parts = three_parts(0)
        plain = [Plain(key, part) for key, part in parts.items()]
        self.rates, self.training, self.evaluation = [], [vector(parts)], [vector(parts)]
        for update in range(STEPS):
            parts.zero_grad()
            loss_of_three(parts, batch(update)).backward()
            for optimizer in plain:
                optimizer.step()
            self.rates.append([optimizer.rate for optimizer in plain])
            self.training.append(vector(parts))
            self.evaluation.append(torch.cat([optimizer.evaluation_weights() for optimizer in plain]))


def assert_weights(noted, expected):
    assert noted
    for updates, weights in noted:
        assert torch.equal(weights, expected[updates])
