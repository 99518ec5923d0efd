"""What `optim plot` shows of the built-in optimizers, compared with PyTorch's and schedulefree's own classes."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import schedulefree
import torch
from torch.optim.lr_scheduler import OneCycleLR

from optim_tools.command.plot_schedules import Plot, plot_schedules
from optim_tools.inspection.curves import Curve


def plotted(target: str, *params: str, **options: Any) -> list[Curve]:
    report = plot_schedules(target, params, **{"output": None, "steps": None, "scale": "auto"} | options)
    assert isinstance(report, Plot)
    return list(report.curves)


def parameter() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(2, 2), requires_grad=True)


@pytest.mark.parametrize("params", [{}, {"three_phase": True, "pct_start": 0.2}, {"anneal_strategy": "linear"}])
def test_one_cycle_has_the_rates_and_betas_of_pytorchs(params: dict[str, Any]) -> None:
    arguments = [f"{name}={value}" for name, value in params.items()]
    (curve,) = plotted("adamw_cosine_schedule", "max_lr=1e-3", "total_steps=3000", *arguments)

    oracle = torch.optim.AdamW([parameter()], lr=1e-3)
    scheduler = OneCycleLR(oracle, 1e-3, total_steps=3000, **params)
    expected = []
    for step in range(3000):
        expected.append((oracle.param_groups[0]["lr"], oracle.param_groups[0]["betas"][0]))
        oracle.step()
        if step < 2999:
            scheduler.step()
    assert not curve.stepped
    assert curve.rates == tuple(expected[step][0] for step in curve.steps)
    assert curve.options == {"betas[0]": tuple(expected[step][1] for step in curve.steps)}
    assert {0, 2999} <= set(curve.steps)
    assert curve.peak[1] == max(rate for rate, _ in expected)


def test_the_turning_points_of_twenty_million_steps_are_exact() -> None:
    arguments = ["total_steps=20000000", "max_lr=1e-3", "pct_start=0.3"]
    (curve,) = plotted("adamw_cosine_schedule", *arguments)
    found = dict(zip(curve.steps, curve.rates, strict=True))

    # PyTorch's rise ends a step before 0.3 of the horizon.
    assert curve.peak == (5_999_999, 1e-3)
    assert (found[0], found[19_999_999]) == pytest.approx((1e-3 / 25, 1e-3 / 25 / 1e4))
    assert len(found) < 2000


def test_warmup_and_cosine_follow_the_formula() -> None:
    arguments = ["peak_lr=1e-4", "start_lr=1e-6", "end_lr=1e-6", "total_steps=5000", "warmup_steps=321"]
    (curve,) = plotted("adamw_warmup_cosine_decay", *arguments)

    def rate(step: int) -> float:
        if step < 321:
            return 1e-6 + 0.99e-4 * step / 321
        return 1e-6 + 0.99e-4 * (1 + math.cos(math.pi * (step - 321) / (4999 - 321))) / 2

    assert curve.rates == pytest.approx([rate(step) for step in curve.steps])
    assert {0, 321, 4999} <= set(curve.steps)


def test_schedule_free_radam_has_the_rates_that_the_library_applies() -> None:
    (curve,) = plotted("schedule_free_radam", "lr=0.01", steps=300)

    own = parameter()
    oracle = schedulefree.RAdamScheduleFree([own], lr=0.01)
    oracle.train()
    expected = []
    for _ in range(300):
        own.grad = torch.full_like(own, 0.1)
        oracle.step()
        expected.append(oracle.param_groups[0]["scheduled_lr"])
    assert curve.stepped
    assert curve.rates == tuple(expected)


def test_the_configuration_of_the_readme_is_plotted(tmp_path: Path) -> None:
    readme = Path(__file__).parent.parent / "README.md"
    found = re.search(r"```yaml\n# config\.yaml\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    config = tmp_path / "config.yaml"
    config.write_text(found[1], encoding="utf-8")

    curves = plotted(str(config), steps=2000, output=tmp_path / "rates.png")

    assert [(curve.component, curve.stepped) for curve in curves] == [
        ("info_embedder", False),
        ("backbone", False),
        ("head", True),
    ]
    assert (tmp_path / "rates.png").stat().st_size > 10_000
