"""States of `ScheduledAdamW`, of PyTorch's own AdamW and from earlier, loaded and continued from."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.nn import Parameter

from core_support.adamw_training import (
    FOREACH,
    FUSED,
    OPTIONS,
    PEAK,
    WAYS,
    Falling,
    assert_same,
    complex_parameter,
    follow,
    give_gradients,
    ours,
    parameters,
    params_of,
    rate,
    scaled_in_kernels,
    set_rates,
    ways,
)
from optim_core import ScheduledAdamW, ScheduleWarning, StateMismatchError


def trained(make: Callable[[list[Parameter]], torch.optim.Optimizer], steps: int) -> torch.optim.Optimizer:
    optimizer = make(parameters())
    for step in range(steps):
        if not isinstance(optimizer, ScheduledAdamW):
            set_rates(optimizer, step)
        give_gradients(optimizer, step)
        optimizer.step()
    return optimizer


def placed(params: Sequence[torch.Tensor]) -> list[Parameter]:
    return [Parameter(p.detach().clone()) for p in params]


class TestLoading:
    @pytest.mark.parametrize("live", WAYS, ids=str)
    @pytest.mark.parametrize("saved", WAYS, ids=str)
    @pytest.mark.parametrize("bare", [False, True], ids=["", "bare AdamW"])
    @pytest.mark.parametrize("default", [torch.float32, torch.float64])
    def test_keeps_the_implementation_of_this_optimizer_and_continues(
        self, live: dict[str, Any], saved: dict[str, Any], bare: bool, default: torch.dtype
    ) -> None:
        torch.set_default_dtype(default)
        try:
            source = trained(
                lambda p: torch.optim.AdamW(p, **saved) if bare else ours(p, **saved),
                4,
            )
        finally:
            torch.set_default_dtype(torch.float32)
        state = copy.deepcopy(source.state_dict())
        # The first is what is chosen without being told.
        optimizer = ours(placed(params_of(source)), **({} if live["fused"] else live))
        oracle = torch.optim.AdamW(placed(params_of(source)), **live)
        told = {**copy.deepcopy(state), "param_groups": [{**group, **live} for group in state["param_groups"]]}
        oracle.load_state_dict(told)

        if bare:
            with pytest.warns(ScheduleWarning):
                optimizer.load_state_dict(state)
        else:
            optimizer.load_state_dict(state)

        assert ways(optimizer) == [(live["fused"], live["foreach"])]
        assert scaled_in_kernels(optimizer) == live["fused"]
        assert optimizer.schedule_step == 4
        follow(optimizer, oracle, range(4, 8))

    @pytest.mark.parametrize("changed", [{"fused": None, "foreach": None}, None], ids=["None", "without"])
    def test_checkpoint_from_before_the_choice_continues_fused(self, changed: dict[str, Any] | None) -> None:
        source = trained(lambda p: torch.optim.AdamW(p, fused=True), 4)
        earlier = trained(lambda p: ours(p, foreach=False), 4)
        state = copy.deepcopy(earlier.state_dict())
        for group in state["param_groups"]:
            del group["fused"], group["foreach"]
            group.update(changed or {})
        optimizer = ours(placed(params_of(earlier)))

        optimizer.load_state_dict(state)

        assert ways(optimizer) == [FUSED]
        assert scaled_in_kernels(optimizer)
        for step in range(4, 8):
            set_rates(source, step)
            for each in (source, optimizer):
                give_gradients(each, step)
                each.step()
        torch.testing.assert_close(params_of(optimizer), params_of(source))

    def test_state_loads_into_pytorchs_own_and_continues_there(self) -> None:
        source = trained(ours, 4)
        bare = torch.optim.AdamW(placed(params_of(source)))

        bare.load_state_dict(copy.deepcopy(source.state_dict()))

        assert ways(bare) == [FUSED]
        follow(source, bare, range(4, 8))

    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    def test_resuming_from_a_file_is_exact(self, options: dict[str, Any]) -> None:
        source = trained(lambda p: ours(p, **options), 4)
        torch.save(source.state_dict(), file := io.BytesIO())
        file.seek(0)
        resumed = ours(placed(params_of(source)), **options)

        resumed.load_state_dict(torch.load(file, weights_only=True))

        assert ways(resumed) == [FUSED]
        for step in range(4, 10):
            for each in (source, resumed):
                give_gradients(each, step)
                each.step()
            assert_same(source, resumed)
            assert float(resumed.param_groups[0]["lr"]) == rate(step + 1)

    def test_group_that_joins_after_a_load_has_the_choice_made_again(self) -> None:
        source = trained(ours, 2)
        optimizer = ours(placed(params_of(source)))
        optimizer.load_state_dict(source.state_dict())

        optimizer.add_param_group({"params": [complex_parameter()]})

        assert ways(optimizer) == [FOREACH] * 2

    def test_state_of_a_fresh_optimizer_can_be_read_by_the_distributed_checkpoint(self) -> None:
        model = torch.nn.Linear(3, 2)
        optimizer = ours(model.parameters())
        before = copy.deepcopy(model.state_dict())

        state: Any = get_optimizer_state_dict(model, optimizer)

        assert [float(entry["step"]) for entry in state["state"].values()] == [0.0, 0.0]
        assert (optimizer.schedule_step, optimizer.param_groups[0]["lr"]) == (0, PEAK)
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())

    @pytest.mark.parametrize(("saved", "live"), [((4, 4), (400, 400)), ((6, 4), (4, 6)), ((3,), (3, 1))])
    def test_state_of_other_shapes_is_refused_and_nothing_changes(
        self, saved: tuple[int, ...], live: tuple[int, ...]
    ) -> None:
        source, target = (ScheduledAdamW([Parameter(torch.ones(shape))], schedule=Falling()) for shape in (saved, live))
        for optimizer in (source, target):
            give_gradients(optimizer, 0)
            optimizer.step()
        before = copy.deepcopy(target.state_dict())

        with pytest.raises(StateMismatchError, match=r"parameter 0 of group 0 is .*, in the checkpoint"):
            target.load_state_dict(source.state_dict())

        assert str(target.state_dict()) == str(before)
