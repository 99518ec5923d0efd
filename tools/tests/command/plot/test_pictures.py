"""`optim plot -o` writes a picture: PNG or SVG, with every name in it, the same each time."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import pytest

from optim_tools.command.picture import picture
from optim_tools.command.plot_schedules import Plot
from optim_tools.inspection.curves import Curve
from tools_support.plotted_schedules import plot, rendered, spec


def test_a_png_is_written_and_named(config: Callable[..., str], folder: Path) -> None:
    report = plot(config(a=spec(peak_lr=0.1), b={"type": "cyclic"}), output="rates.PNG")

    assert (folder / "rates.PNG").read_bytes().startswith(b"\x89PNG")
    assert rendered(report) == "wrote rates.PNG (2 components)\n"
    assert report.document()["output"] == "rates.PNG"
    assert sorted(os.listdir(folder)) == ["config.yaml", "rates.PNG"]


def test_a_picture_replaces_the_one_before(folder: Path) -> None:
    (folder / "rates.svg").write_text("before")

    plot("warm", "peak_lr=0.1", output="rates.svg")

    assert "</svg>" in (folder / "rates.svg").read_text(encoding="utf-8")


def svg(target: str, *params: str, **options: Any) -> str:
    plot(target, *params, output="picture.svg", **options)
    return Path("picture.svg").read_text(encoding="utf-8")


def texts(drawn: str) -> list[str]:
    """The lines of text of an SVG."""
    elements = ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(element.itertext()).strip() for element in elements]


def test_an_svg_has_its_words_as_text_and_is_the_same_each_time(config: Callable[..., str]) -> None:
    name = config(**{f"component_{i}": spec(peak_lr=0.1 + i) for i in range(12)})

    drawn = svg(name)

    words = texts(drawn)
    assert {"config.yaml", "learning rate (absolute)", "step (optimizer updates)"} <= set(words)
    assert {f"component_{i}" for i in range(12)} <= set(words)
    assert svg(name) == drawn


def test_only_what_moves_has_a_panel_of_its_own() -> None:
    assert "(dimensionless)" not in svg("warm", "peak_lr=0.1")

    assert {"momentum", "(dimensionless)"} <= set(texts(svg("cyclic")))


def test_names_are_no_formulas_and_none_is_left_out(config: Callable[..., str]) -> None:
    words = texts(svg(config(_hidden=spec(peak_lr=0.1), **{"$x^2$": spec(peak_lr=0.2)})))

    assert {"_hidden", "$x^2$"} <= set(words)


def test_names_of_the_same_curve_are_all_in_the_legend(config: Callable[..., str]) -> None:
    words = " ".join(texts(svg(config(**{f"twin_{i}": spec(peak_lr=0.1) for i in range(12)}))))

    assert all(f"twin_{i}" in words for i in range(12))


@pytest.mark.parametrize(("scale", "expected"), [("linear", "0"), ("log", "1e-3")])
def test_the_scale_of_a_picture_can_be_chosen(scale: str, expected: str) -> None:
    lowest = [text for text in texts(svg("warm", "peak_lr=1", scale=scale)) if text in ("0", "1e-3")]

    # One zero is that of the steps.
    assert lowest.count(expected) == (2 if scale == "linear" else 1)


def test_steps_are_logarithmic_where_horizons_are_far_apart(config: Callable[..., str]) -> None:
    near = {"one": spec(peak_lr=0.1, total_steps=1000), "two": spec(peak_lr=0.1, total_steps=20_000)}
    assert "step (optimizer updates)" in texts(svg(config(**near)))
    far = near | {"three": spec(peak_lr=0.1, total_steps=2_000_000)}
    assert "step (optimizer updates, logarithmic)" in texts(svg(config(**far)))


def test_long_names_stay_different_in_the_legend(config: Callable[..., str]) -> None:
    names = [f"encoder.layers.attention.{part}.projection.weight_block" for part in ("query", "value")]
    components = {name: spec(peak_lr=0.1 * number) for number, name in enumerate(names, 1)}
    words = "".join(texts(svg(config(**components)))).replace(" ", "")
    assert all(name in words for name in names)


def test_rates_that_are_no_numbers_are_drawn_as_far_as_they_are() -> None:
    curves = [
        Curve("a", "kind", 3, (0, 1, 2), (math.nan, math.inf, 0.1)),
        Curve("b", "kind", 3, (0, 1, 2), (math.nan,) * 3, options={"momentum": (0.9, math.nan, 0.8)}),
        Curve("c", "kind", 1, (0,), (-1.0,)),
    ]
    report = Plot("config.yaml", curves, "auto", None)

    assert picture("config.yaml", curves, "png").startswith(b"\x89PNG")
    assert "nan" in rendered(report)
    assert json.dumps(report.document(), allow_nan=False)


def test_nobodys_own_style_of_matplotlib_changes_a_picture(folder: Path) -> None:
    before = svg("warm", "peak_lr=0.1")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "text.usetex": True}):
        assert svg("warm", "peak_lr=0.1") == before
        assert matplotlib.rcParams["font.size"] == 30
