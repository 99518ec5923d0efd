"""`ReadOnlyScheduler` by itself: it is a scheduler like any other, and changes nothing."""

import copy
import pickle

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from optim_core import OPTIMIZER_BUILDER_REGISTRY, build_optimizers
from optim_core.integrations import ReadOnlyScheduler
from workspace_support import training_by_hand as by_hand
from workspace_support.training_by_hand import PARAMS, SCHEDULE_FREE, STEPS, Run, batch, loss_of, network, vector

each_key = pytest.mark.parametrize("key", PARAMS)


def build(key, module):
    return OPTIMIZER_BUILDER_REGISTRY[key](**PARAMS[key]).build(module.parameters())


@pytest.fixture
def sgd():
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    return torch.optim.SGD([{"params": [weights[0]]}, {"params": [weights[1]], "lr": 0.5}], lr=0.1)


@each_key
@pytest.mark.parametrize("calls", [1, 3])
def test_it_reports_the_rates_and_changes_nothing_however_often_it_is_stepped(key, calls):
    run, module = Run(key), network()
    optimizer = build(key, module)
    scheduler = ReadOnlyScheduler(optimizer)
    for update in range(STEPS):
        optimizer.zero_grad()
        loss_of(module, batch(update)).backward()
        before = scheduler.get_last_lr()
        optimizer.step()
        # Where trainers log: the rate that was applied, which schedule-free knows only now.
        assert scheduler.get_last_lr() == pytest.approx([run.rates[update]], rel=1e-12)
        assert key == SCHEDULE_FREE or scheduler.get_last_lr() == before
        for _ in range(calls):
            scheduler.step()
        (group,) = optimizer.param_groups
        assert scheduler.get_last_lr() == [group["scheduled_lr" if key == SCHEDULE_FREE else "lr"]]
    assert torch.equal(vector(module), run.training[-1])


def test_it_reports_what_a_torch_scheduler_does_at_every_moment():
    module, plain = network(), torch.optim.AdamW(network().parameters(), lr=by_hand.PEAK)
    optimizer = build("adamw_cosine_schedule", module)
    ours = ReadOnlyScheduler(optimizer)
    theirs = OneCycleLR(plain, max_lr=by_hand.PEAK, total_steps=STEPS)
    for _ in range(STEPS - 1):
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-12)
        optimizer.step()
        plain.step()
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-12)
        ours.step()
        theirs.step()
        assert (ours.last_epoch, ours._step_count) == (theirs.last_epoch, theirs._step_count)


def test_a_torch_scheduler_in_its_place_writes_to_the_optimizer(sgd):
    LambdaLR(sgd, lambda step: 0.5)
    assert [group["lr"] for group in sgd.param_groups] == [0.05, 0.25]
    assert "step" in vars(sgd)


def test_neither_its_construction_nor_its_methods_touch_the_optimizer(sgd):
    before = copy.deepcopy(sgd.state_dict()), set(vars(sgd))
    scheduler = ReadOnlyScheduler(sgd)
    scheduler.step()
    scheduler.step(7)
    scheduler.load_state_dict(scheduler.state_dict())
    scheduler.get_lr()
    assert (sgd.state_dict(), set(vars(sgd))) == before
    assert "initial_lr" not in sgd.param_groups[0]


def test_it_has_what_trainers_ask_a_scheduler_for(sgd):
    scheduler = ReadOnlyScheduler(sgd)
    assert isinstance(scheduler, LRScheduler)
    assert scheduler.optimizer is sgd
    assert scheduler.get_last_lr() == scheduler.get_lr() == scheduler._last_lr == scheduler.base_lrs == [0.1, 0.5]
    assert (scheduler.last_epoch, scheduler._step_count) == (0, 1)
    scheduler.step()
    scheduler.step()
    assert (scheduler.last_epoch, scheduler._step_count) == (2, 3)
    scheduler.step(7)
    assert scheduler.last_epoch == 7


def test_its_base_rates_are_the_peaks_of_a_schedule():
    optimizer = build("adamw_warmup_cosine_decay", network())
    assert ReadOnlyScheduler(optimizer).base_lrs == [by_hand.PEAK]
    assert ReadOnlyScheduler(optimizer).get_last_lr() == [by_hand.START]


def test_rates_that_are_tensors_and_groups_added_later_are_reported(sgd):
    scheduler = ReadOnlyScheduler(sgd)
    sgd.param_groups[0]["lr"] = torch.tensor(0.25)
    sgd.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.75})
    assert scheduler.get_last_lr() == [0.1, 0.5, 0.75]
    scheduler.step()
    assert scheduler.get_last_lr() == [0.25, 0.5, 0.75]
    assert all(type(rate) is float for rate in scheduler.get_last_lr())


def test_its_state_is_plain_numbers_and_restores_its_count(sgd, tmp_path):
    scheduler = ReadOnlyScheduler(sgd)
    scheduler.step()
    torch.save(scheduler.state_dict(), tmp_path / "scheduler.pt")
    state = torch.load(tmp_path / "scheduler.pt", weights_only=True)
    assert state == {"last_epoch": 1, "_step_count": 2, "_last_lr": [0.1, 0.5]}
    restored = ReadOnlyScheduler(sgd)
    sgd.param_groups[0]["lr"] = 0.2
    restored.load_state_dict(state)
    assert (restored.last_epoch, restored._step_count) == (1, 2)
    assert restored.get_last_lr() == [0.2, 0.5]


def test_the_state_of_a_torch_scheduler_that_it_replaces_can_be_loaded(sgd):
    other = LambdaLR(sgd, lambda step: 1.0)
    sgd.step()
    other.step()
    scheduler = ReadOnlyScheduler(sgd)
    scheduler.load_state_dict(other.state_dict())
    assert scheduler.last_epoch == 1
    assert not hasattr(scheduler, "lr_lambdas")
    assert scheduler.optimizer is sgd


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
@each_key
def test_a_copy_reports_the_copied_optimizer(key, duplicate):
    module = network()
    optimizer = build(key, module)
    scheduler = ReadOnlyScheduler(optimizer)
    scheduler.step()
    copied_module, copied_optimizer, copied = duplicate((module, optimizer, scheduler))
    assert copied.optimizer is copied_optimizer
    assert copied.last_epoch == 1
    loss_of(copied_module, batch(0)).backward()
    copied_optimizer.step()
    copied.step()
    assert copied.get_last_lr() != scheduler.get_last_lr()


def test_what_has_no_groups_is_refused():
    optimizers = build_optimizers({"net": network()}, {"net": {"type": SCHEDULE_FREE}})
    with pytest.raises(TypeError, match=r"a ComponentOptimizers has no parameter groups: give .* one optimizer"):
        ReadOnlyScheduler(optimizers)
