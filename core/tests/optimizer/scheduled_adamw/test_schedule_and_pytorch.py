"""Rates of `ScheduledAdamW` from its schedule, and what it takes for granted of PyTorch's private parts."""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.nn import Parameter
from torch.optim.adamw import adamw
from torch.utils import _foreach_utils

from core_support.adamw_training import (
    OPTIONS,
    PEAK,
    TOTAL,
    WAYS,
    Falling,
    assert_same,
    complex_parameter,
    follow,
    give_gradients,
    ours,
    pair,
    parameters,
    params_of,
    rate,
    through_pickle,
)
from optim_core import InvalidArgumentsError, ScheduleWarning, WarmupCosine
from optim_core.optimizer import fused_or_foreach


class TestPyTorch:
    """What is taken for granted of PyTorch's private parts."""

    def test_has_the_kernels_where_they_are_believed_to_be(self) -> None:
        fused = _foreach_utils._get_fused_kernels_supported_devices()
        foreach = _foreach_utils._get_foreach_kernels_supported_devices()

        assert set(fused) >= fused_or_foreach._FUSED_DEVICES
        assert {*foreach, "cpu"} >= fused_or_foreach._FOREACH_DEVICES

    @pytest.mark.parametrize("dtype", sorted(fused_or_foreach._FUSED_TYPES, key=str))
    def test_has_fused_kernels_for_the_types(self, dtype: torch.dtype) -> None:
        optimizer = torch.optim.AdamW(parameters(dtype), fused=True)
        give_gradients(optimizer, 0)

        optimizer.step()

        assert not torch.equal(params_of(optimizer)[0], parameters(dtype)[0])

    def test_refuses_to_fuse_complex_parameters(self) -> None:
        optimizer = torch.optim.AdamW([complex_parameter()], fused=True)
        give_gradients(optimizer, 0)

        with pytest.raises(RuntimeError, match="fused=True` requires all the params to be floating point"):
            optimizer.step()

    def test_tells_a_gradient_scaler_that_it_is_fused(self) -> None:
        assert vars(torch.optim.AdamW(parameters(), fused=True))["_step_supports_amp_scaling"] is True
        assert not hasattr(torch.optim.AdamW(parameters(), foreach=True), "_step_supports_amp_scaling")

    @pytest.mark.parametrize("options", OPTIONS[:5], ids=str)
    @pytest.mark.parametrize("way", WAYS, ids=str)
    def test_has_a_function_that_does_what_the_step_does(self, options: dict[str, Any], way: dict[str, Any]) -> None:
        optimizer = torch.optim.AdamW(parameters(), lr=PEAK, **options, **way)
        give_gradients(optimizer, 0)
        optimizer.step()
        twin = copy.deepcopy(optimizer)
        for each in (optimizer, twin):
            give_gradients(each, 1)
        states = [twin.state[p] for p in params_of(twin)]
        group = twin.param_groups[0]

        optimizer.step()
        with torch.no_grad():
            adamw(
                [*params_of(twin)],
                [p.grad for p in params_of(twin) if p.grad is not None],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [state["max_exp_avg_sq"] for state in states if group["amsgrad"]],
                [state["step"] for state in states],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                **way,
                **{name: group[name] for name in ("amsgrad", "lr", "weight_decay", "eps", "maximize", "capturable")},
            )

        assert_same(twin, optimizer)


CALLS: list[tuple[int, float]] = []


@dataclass(frozen=True)
class Counting(Falling):
    """Keeps what it was asked in `CALLS`."""

    def options_at(self, step: int, peak_lr: float) -> dict[str, Any]:
        CALLS.append((step, peak_lr))
        return super().options_at(step, peak_lr)


class TestSchedule:
    def test_of_many_groups_follows_the_formula_for_each(self) -> None:
        peaks = [0.01 * (index + 1) for index in range(50)]
        schedule = WarmupCosine(peak_lr=0.1, total_steps=12, warmup_steps=4, start_lr=0.02, end_lr=0.01)
        groups = [{"params": [Parameter(torch.ones(2))], "lr": peak} for peak in peaks]
        optimizer = ours(groups, schedule=schedule)

        for step in range(12):
            if step < 4:
                expected = 0.02 + (0.1 - 0.02) * step / 4
            else:
                expected = 0.01 + (0.1 - 0.01) * (1 + math.cos(math.pi * (step - 4) / 7)) / 2
            rates = [group["lr"] for group in optimizer.param_groups]
            assert rates == pytest.approx([expected * peak / 0.1 for peak in peaks])
            give_gradients(optimizer, step)
            optimizer.step()

    def test_values_of_many_groups_are_those_of_pytorch(self) -> None:
        peaks = [0.01 * (index + 1) for index in range(50)]
        own = [{"params": [p], "lr": peak} for p, peak in zip(parameters(count=50), peaks, strict=True)]
        others = [{"params": [p], "peak": peak} for p, peak in zip(parameters(count=50), peaks, strict=True)]

        follow(ours(own), torch.optim.AdamW(others, fused=True), range(5))

    @pytest.mark.parametrize(
        ("peaks", "distinct"), [([PEAK], 1), ([PEAK] * 3, 1), ([PEAK, 0.5, PEAK], 2)], ids=["one", "shared", "two"]
    )
    def test_is_evaluated_once_a_step_for_each_peak(self, peaks: list[float], distinct: int) -> None:
        groups = [{"params": [p], "lr": peak} for p, peak in zip(parameters(), peaks, strict=False)]
        optimizer = ours(groups, schedule=Counting())
        for step in range(3):
            give_gradients(optimizer, step)
            optimizer.step()

        for step in range(3, 8):
            give_gradients(optimizer, step)
            CALLS.clear()
            optimizer.step()
            assert sorted(CALLS) == sorted((step + 1, peak) for peak in set(peaks))
            assert len(CALLS) == distinct

    def test_is_evaluated_once_a_step_after_a_copy_and_after_a_load(self) -> None:
        optimizer = through_pickle(ours(parameters(), schedule=Counting()))
        optimizer.load_state_dict(optimizer.state_dict())
        optimizer.step()

        CALLS.clear()
        optimizer.step()

        assert CALLS == [(2, PEAK)]

    @pytest.mark.parametrize("lr", [PEAK, torch.tensor(PEAK)], ids=["float", "tensor"])
    def test_overrides_another_scheduler_with_one_warning(self, lr: Any) -> None:
        optimizer, oracle = pair(lr=lr)
        follow(optimizer, oracle, range(3))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 ** (step + 1))

        def step_all() -> None:
            for step in range(3, 8):
                follow(optimizer, oracle, [step])
                scheduler.step()

        with pytest.warns(ScheduleWarning, match="take away the other scheduler") as caught:
            step_all()

        assert len(caught) == 1

    @pytest.mark.parametrize("index", [0, 1])
    def test_overrides_a_rate_that_was_written_into_any_group(self, index: int) -> None:
        optimizer = ours([{"params": [p]} for p in parameters(count=2)])
        oracle = torch.optim.AdamW([{"params": [p]} for p in parameters(count=2)], fused=True)
        follow(optimizer, oracle, range(3))
        optimizer.param_groups[index]["lr"] = 7.0

        with pytest.warns(ScheduleWarning, match=f"group {index} of ScheduledAdamW was changed from outside"):
            follow(optimizer, oracle, [3])

        optimizer.param_groups[index]["lr"] = 7.0
        follow(optimizer, oracle, range(4, 6))

    def test_takes_the_same_rate_written_anew_for_no_change(self) -> None:
        optimizer, oracle = pair()
        follow(optimizer, oracle, range(3))

        optimizer.param_groups[0]["lr"] = float(str(rate(3)))

        follow(optimizer, oracle, range(3, 5))

    @pytest.mark.parametrize("lr", [PEAK, torch.tensor(PEAK)], ids=["float", "tensor"])
    @pytest.mark.parametrize("peak", [0.5, 1, torch.tensor(0.25)], ids=["float", "int", "tensor"])
    def test_has_a_changed_peak_at_the_next_step(self, lr: Any, peak: Any) -> None:
        optimizer, oracle = pair(lr=lr)
        follow(optimizer, oracle, range(3))

        optimizer.param_groups[0]["peak_lr"] = peak
        oracle.param_groups[0]["peak"] = float(peak)

        follow(optimizer, oracle, range(3, 6))
        assert float(optimizer.param_groups[0]["lr"]) == rate(6, float(peak))

    @pytest.mark.parametrize("peak", [math.nan, math.inf, -1.0, "0.1", None, True, torch.ones(2)], ids=str)
    @pytest.mark.parametrize("index", [0, 1])
    def test_refuses_a_peak_that_is_no_rate_before_anything_changes(self, peak: Any, index: int) -> None:
        optimizer = ours([{"params": [p]} for p in parameters(count=2)])
        oracle = torch.optim.AdamW([{"params": [p]} for p in parameters(count=2)], fused=True)
        follow(optimizer, oracle, range(3))
        optimizer.param_groups[index]["peak_lr"] = peak
        give_gradients(optimizer, 3)

        with pytest.raises(InvalidArgumentsError, match=rf"param_groups\[{index}\]\['peak_lr'\]"):
            optimizer.step()

        assert_same(optimizer, oracle)
        assert [(g["schedule_step"], g["lr"]) for g in optimizer.param_groups] == [(3, rate(3))] * 2
        optimizer.param_groups[index]["peak_lr"] = PEAK
        follow(optimizer, oracle, range(3, 5))

    def test_warns_once_past_its_end_where_the_last_rate_holds(self) -> None:
        optimizer = ours(parameters(), initial_step=TOTAL - 1)
        give_gradients(optimizer, 0)
        optimizer.step()
        before = [p.detach().clone() for p in params_of(optimizer)]

        with pytest.warns(ScheduleWarning, match="past the end") as caught:
            optimizer.step()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            optimizer.step()

        assert len(caught) == 1
        assert (optimizer.schedule_step, optimizer.param_groups[0]["lr"]) == (TOTAL + 2, 0.0)
        assert all(map(torch.equal, before, params_of(optimizer)))
