"""Curves: a schedule is asked, any other optimizer is stepped, and both give the rate of each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from optim_core.optimizer.scheduled_optimizer import ScheduledOptimizer
from optim_core.schedules.warmup_cosine import WarmupCosine
from optim_tools.inspection import curves as curves_module
from optim_tools.inspection.curves import Curve, CurveError, alike, asked_curves, curves_of, peak_step, stepped_curves


class ScheduledSGD(ScheduledOptimizer, torch.optim.SGD):
    """Stochastic gradient descent on a schedule."""


class ScheduledAdam(ScheduledOptimizer, torch.optim.Adam):
    """Adam on a schedule."""


@dataclass(frozen=True)
class Trapezoid:
    """Up to a plateau and down again; the first beta falls meanwhile."""

    peak_lr: float = 0.5
    total_steps: int = 100
    rise: int = 10
    hold: int = 50

    def options_at(self, step: int, peak_lr: float) -> dict[str, Any]:
        step = min(step, self.total_steps - 1)
        rate = peak_lr * min(1, (step + 1) / self.rise, (self.total_steps - step) / (self.total_steps - self.hold))
        return {"lr": rate, "betas": (0.95 - 0.1 * step / self.total_steps, None)}


def parameter() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(2, 2))


class Factory:
    """Builds what it is told to."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self.make = make

    def build(self, params: Any) -> Any:
        return self.make(params)


def only_curve(make: Callable[[Any], Any], **options: Any) -> Curve:
    (curve,) = curves_of({"net": Factory(make)}, {"net": "kind"}, {"net": {}}, **options)
    return curve


def rates(curve: Curve) -> dict[int, float]:
    return dict(zip(curve.steps, curve.rates, strict=True))


# Asking.


def test_a_schedule_is_asked_for_the_rate_of_every_step() -> None:
    curve = only_curve(lambda p: ScheduledSGD(p, schedule=WarmupCosine(peak_lr=0.1, total_steps=50, warmup_steps=10)))

    expected = [0.1 * s / 10 if s < 10 else 0.05 * (1 + math.cos(math.pi * (s - 10) / 39)) for s in range(50)]
    assert curve.steps == tuple(range(50))
    assert curve.rates == pytest.approx(expected)
    assert (curve.component, curve.type, curve.horizon, curve.stepped) == ("net", "kind", 50, False)
    assert curve.peak == (10, 0.1)


def test_asking_makes_no_step() -> None:
    optimizer = ScheduledAdam([parameter()], schedule=WarmupCosine(peak_lr=0.1, total_steps=50))

    asked_curves("net", "kind", optimizer, 50)

    assert optimizer.schedule_step == 0
    assert not optimizer.state


def test_options_that_move_are_there_and_those_that_do_not_are_left_out() -> None:
    curve = only_curve(lambda p: ScheduledAdam(p, schedule=Trapezoid()))

    assert list(curve.options) == ["betas[0]"]
    assert curve.options["betas[0]"] == pytest.approx([0.95 - 0.001 * step for step in range(100)])


def test_groups_with_other_peaks_have_curves_of_their_own() -> None:
    groups = [{"params": [parameter()]}, {"params": [parameter()], "lr": 0.02}, {"params": [parameter()]}]
    optimizer = ScheduledSGD(groups, schedule=WarmupCosine(peak_lr=0.1, total_steps=20))

    first, second = asked_curves("net", "kind", optimizer, 20)

    assert (first.group, second.group) == (0, 1)
    assert second.rates == pytest.approx([rate / 5 for rate in first.rates])


def test_the_whole_horizon_is_drawn_where_training_begins_further_on() -> None:
    schedule = WarmupCosine(peak_lr=0.1, total_steps=50)
    curve = only_curve(lambda p: ScheduledSGD(p, schedule=schedule, initial_step=7))

    assert curve.steps[0] == 0
    assert curve.begins_at == 7
    assert curve.note == "training begins at step 7"


def test_more_steps_than_the_horizon_show_the_last_rate_holding() -> None:
    schedule = WarmupCosine(peak_lr=0.1, total_steps=50, end_lr=0.01)
    curve = only_curve(lambda p: ScheduledSGD(p, schedule=schedule), steps=60)

    assert curve.horizon == 60
    assert curve.rates[49:] == (0.01,) * 11


def test_a_long_horizon_has_its_turning_points() -> None:
    schedule = WarmupCosine(peak_lr=0.1, total_steps=20_000_000, warmup_steps=12_345, start_lr=0.01, end_lr=0.001)
    found = rates(only_curve(lambda p: ScheduledSGD(p, schedule=schedule)))

    assert (found[0], found[12_345], found[19_999_999]) == (0.01, 0.1, 0.001)
    assert len(found) < 1300


def test_a_schedule_that_fails_is_named_with_its_component() -> None:
    @dataclass(frozen=True)
    class Failing(Trapezoid):
        def options_at(self, step: int, peak_lr: float) -> dict[str, Any]:
            return {"lr": 1 / (50 - step)}

    with pytest.raises(CurveError, match=r"^component 'net' \(kind\): its schedule fails: ZeroDivisionError"):
        only_curve(lambda p: ScheduledAdam(p, schedule=Failing()))


@pytest.mark.parametrize("warmup", [0, 1, 4321, 999_999])
def test_the_peak_of_a_schedule_is_found_exactly(warmup: int) -> None:
    assert peak_step(WarmupCosine(peak_lr=0.1, total_steps=20_000_000, warmup_steps=warmup)) == warmup


def test_the_peak_of_a_plateau_is_its_first_step() -> None:
    assert peak_step(Trapezoid(total_steps=3_000_000, rise=70_000, hold=2_900_000)) == 69_999


# Stepping.


def test_an_optimizer_without_a_schedule_is_stepped_and_its_own_changes_recorded() -> None:
    def shape(step: int) -> float:
        return 0.5 ** (step // 30)

    def make(params: Any) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(params, lr=0.1)
        scheduler = LambdaLR(optimizer, shape)
        optimizer.register_step_post_hook(lambda *_: scheduler.step())
        return optimizer

    curve = only_curve(make, steps=100)

    assert curve.stepped
    assert curve.rates == pytest.approx([0.1 * shape(step) for step in range(100)])


def test_rates_and_momentum_are_those_of_the_schedulers_of_pytorch() -> None:
    def make(params: Any) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(params, lr=0.1, momentum=0.9)
        scheduler = OneCycleLR(optimizer, 0.1, total_steps=60)
        optimizer.register_step_post_hook(lambda *_: scheduler.step())
        return optimizer

    curve = only_curve(make, steps=59)

    oracle = torch.optim.SGD([parameter()], lr=0.1, momentum=0.9)
    scheduler = OneCycleLR(oracle, 0.1, total_steps=60)
    expected = []
    for _ in range(59):
        expected.append((oracle.param_groups[0]["lr"], oracle.param_groups[0]["momentum"]))
        oracle.step()
        scheduler.step()
    assert curve.rates == tuple(rate for rate, _ in expected)
    assert curve.options == {"momentum": tuple(momentum for _, momentum in expected)}


def test_a_rate_that_is_a_tensor_is_read_as_a_number() -> None:
    def make(params: Any) -> torch.optim.Optimizer:
        optimizer = torch.optim.Adam(params, lr=torch.tensor(0.5))
        optimizer.register_step_post_hook(lambda *_: optimizer.param_groups[0]["lr"].mul_(0.5))
        return optimizer

    assert only_curve(make, steps=4).rates == (0.5, 0.25, 0.125, 0.0625)


def test_an_optimizer_whose_step_needs_a_closure_gets_one() -> None:
    assert only_curve(lambda p: torch.optim.LBFGS(p, lr=0.3), steps=5).rates == (0.3,) * 5


def test_an_optimizer_that_demands_a_closure_only_when_it_runs_gets_one() -> None:
    class Demanding(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            if closure is None:
                raise RuntimeError("a closure is needed")
            return super().step(closure)

    assert only_curve(lambda p: Demanding(p, lr=0.3), steps=5).rates == (0.3,) * 5


def test_every_step_has_a_gradient_that_no_step_before_has_changed() -> None:
    seen = []

    class Greedy(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            for p in self.param_groups[0]["params"]:
                seen.append(p.grad.clone())
                p.grad.zero_()
            return None

    only_curve(lambda p: Greedy(p, lr=0.3), steps=3)

    assert len(seen) == 3
    assert all(torch.equal(gradient, seen[0]) and gradient.any() for gradient in seen)


def test_the_rate_of_a_schedule_free_optimizer_is_the_one_that_its_step_applied() -> None:
    class ScheduleFree(torch.optim.SGD):
        training = False

        def train(self) -> None:
            self.training = True

        def eval(self) -> None:
            self.training = False

        def step(self, closure: Any = None) -> Any:
            assert self.training
            group = self.param_groups[0]
            group["k"] = group.get("k", 0) + 1
            group["scheduled_lr"] = group["lr"] * min(1, group["k"] / 4)

    assert only_curve(lambda p: ScheduleFree(p, lr=0.8), steps=5).rates == (0.2, 0.4, 0.6000000000000001, 0.8, 0.8)


def test_an_optimizer_that_wants_other_parameters_gets_a_vector_too() -> None:
    def make(params: Any) -> torch.optim.Optimizer:
        params = list(params)
        vectors = [p for p in params if p.ndim < 2]
        torch.optim.SGD(vectors, lr=0.1)
        groups = [{"params": [p for p in params if p.ndim == 2]}, {"params": vectors, "lr": 0.01}]
        return torch.optim.SGD(groups, lr=0.1)

    found = curves_of({"net": Factory(make)}, {"net": "kind"}, {"net": {}}, steps=2)

    assert [(curve.group, curve.rates) for curve in found] == [(0, (0.1, 0.1)), (1, (0.01, 0.01))]


def test_a_step_that_raises_is_one_line_that_names_component_and_type() -> None:
    class Failing(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            raise RuntimeError("no such\ndevice")

    with pytest.raises(CurveError) as caught:
        only_curve(lambda p: Failing(p, lr=0.3))

    expected = "component 'net' (kind): a step fails on a dummy parameter: RuntimeError: no such device"
    assert str(caught.value) == expected
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_factory_that_fails_is_named_with_the_first_failure() -> None:
    def make(params: Any) -> Any:
        raise ValueError(f"{len(list(params))} parameters won't do")

    with pytest.raises(CurveError, match="can't be built over a dummy parameter: ValueError: 1 parameters won't do"):
        only_curve(make)


def test_what_is_no_optimizer_is_refused() -> None:
    with pytest.raises(CurveError, match=r"build\(\) returned a list, not a torch\.optim\.Optimizer"):
        only_curve(list)


def test_an_optimizer_without_a_learning_rate_has_a_note() -> None:
    class Bare(torch.optim.Optimizer):
        def step(self, closure: Any = None) -> Any:
            return None

    curve = only_curve(lambda p: Bare(p, {}), steps=2)

    assert all(math.isnan(rate) for rate in curve.rates)
    assert curve.note == "its parameter groups have no learning rate that is a number"


def test_a_rate_that_stops_being_finite_has_a_note() -> None:
    class Exploding(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            self.param_groups[0]["lr"] = math.inf

    curve = only_curve(lambda p: Exploding(p, lr=0.5), steps=3)

    assert curve.note == "its learning rate at step 1 is no finite number"
    assert curve.peak == (0, 0.5)


# Horizons.


def sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.1)


def scheduled(total_steps: int) -> Factory:
    return Factory(lambda p: ScheduledSGD(p, schedule=WarmupCosine(peak_lr=0.1, total_steps=total_steps)))


def horizons(factories: dict[str, Factory], params: dict[str, dict[str, Any]] | None = None, **options: Any) -> Any:
    params = {name: (params or {}).get(name, {}) for name in factories}
    found = curves_of(factories, dict.fromkeys(factories, "kind"), params, **options)
    return {curve.component: curve.horizon for curve in found}


def test_without_any_horizon_it_is_a_thousand_steps() -> None:
    assert horizons({"a": Factory(sgd)}) == {"a": 1000}


def test_an_optimizer_without_a_horizon_has_the_longest_of_the_others() -> None:
    factories = {"a": Factory(sgd), "b": scheduled(30), "c": scheduled(70)}

    assert horizons(factories) == {"a": 70, "b": 30, "c": 70}


def test_total_steps_among_the_params_is_a_horizon() -> None:
    assert horizons({"a": Factory(sgd), "b": scheduled(30)}, {"a": {"total_steps": 44}}) == {"a": 44, "b": 30}


@pytest.mark.parametrize("value", [None, 0, "many", True, 2.5])
def test_what_is_no_number_of_steps_is_no_horizon(value: Any) -> None:
    assert horizons({"a": Factory(sgd)}, {"a": {"total_steps": value}}) == {"a": 1000}


def test_steps_that_are_asked_for_hold_for_all() -> None:
    assert horizons({"a": Factory(sgd), "b": scheduled(30)}, steps=12) == {"a": 12, "b": 12}


def test_a_horizon_too_long_to_be_stepped_is_cut_and_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves_module, "MOST_STEPS", 20)

    (curve,) = curves_of({"a": Factory(sgd)}, {"a": "kind"}, {"a": {"total_steps": 30_000_000}})

    assert curve.horizon == 20
    assert curve.note == "stepped for 20 of 30,000,000 updates; --steps 30000000 steps it for all"
    assert horizons({"a": Factory(sgd)}, steps=30) == {"a": 30}


def test_optimizers_of_the_same_type_and_params_are_stepped_once() -> None:
    stepped = []

    def track(steps: range, name: str) -> Iterable[int]:
        stepped.append(name)
        return steps

    factories = dict.fromkeys(["a", "b", "c"], Factory(sgd))
    params: dict[str, dict[str, Any]] = {"a": {"lr": 1}, "b": {"lr": 1}, "c": {"lr": 2}}
    found = curves_of(factories, dict.fromkeys(factories, "kind"), params, track=track)

    assert stepped == ["a", "c"]
    assert [curve.component for curve in found] == ["a", "b", "c"]


def test_an_interrupt_passes() -> None:
    def track(steps: range, _: str) -> Iterable[int]:
        yield 0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stepped_curves("net", "kind", sgd([parameter()]), 10, track)


def test_curves_that_cannot_be_told_apart_are_together() -> None:
    def curve(name: str, *rates: float, note: str | None = None) -> Curve:
        return Curve(name, "kind", 2, (0, 1), rates, note=note)

    curves = [curve("a", 1, math.nan), curve("b", 1, 2), curve("c", 1, math.nan), curve("d", 1, 2, note="odd")]

    assert [[same.component for same in together] for together in alike(curves)] == [["a", "c"], ["b"], ["d"]]
