"""`optim plot`: the drawing in the terminal, pictures, JSON, and what it says when it can't plot."""

from __future__ import annotations

import io
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import pytest
import torch
from rich.cells import cell_len
from rich.console import Console

from optim_core.arguments.number_types import PeakLearningRate
from optim_core.discovery.registry import OPTIMIZER_BUILDER_REGISTRY
from optim_core.optimizer.scheduled_optimizer import ScheduledOptimizer
from optim_core.schedules.warmup_cosine import WarmupCosine
from optim_tools.command import plot_schedules as module
from optim_tools.command.failures import CommandError
from optim_tools.command.picture import picture
from optim_tools.command.plot_schedules import Plot, plot_schedules
from optim_tools.command.terminal_drawing import draw_curves
from optim_tools.inspection.curves import Curve

Run = Callable[..., subprocess.CompletedProcess[str]]
BRAILLE = re.compile("[\u2801-\u28ff]")


class ScheduledSGD(ScheduledOptimizer, torch.optim.SGD):
    """Stochastic gradient descent on a schedule."""


@dataclass
class Warm:
    """Stochastic gradient descent with warmup and cosine decay."""

    peak_lr: PeakLearningRate
    total_steps: int = 1000
    warmup_steps: int = 100
    end_lr: float = 0.0

    example_params = {"peak_lr": 0.1, "total_steps": 500}  # noqa: RUF012

    def build(self, params: Any) -> torch.optim.Optimizer:
        return ScheduledSGD(params, schedule=WarmupCosine(**vars(self)))


@dataclass
class Cyclic:
    """Momentum that moves in steps of its own."""

    lr: float = 0.1

    def build(self, params: Any) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(params, lr=self.lr, momentum=0.9)

        def move(*_: Any) -> None:
            optimizer.param_groups[0]["momentum"] *= 0.999

        optimizer.register_step_post_hook(move)
        return optimizer


class Failing:
    """Can't be stepped."""

    def build(self, params: Any) -> torch.optim.Optimizer:
        class Optimizer(torch.optim.SGD):
            def step(self, closure: Any = None) -> Any:
                raise RuntimeError("no")

        return Optimizer(params, lr=0.1)


@pytest.fixture(autouse=True)
def _factories(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    for key, factory in {"warm": Warm, "cyclic": Cyclic, "failing": Failing}.items():
        OPTIMIZER_BUILDER_REGISTRY.register(key, factory)
    monkeypatch.chdir(folder)


@pytest.fixture
def config(folder: Path) -> Callable[..., str]:
    """Writes a configuration of components to a file, and returns its name."""

    def write(name: str = "config.yaml", /, **components: dict[str, Any]) -> str:
        (folder / name).write_text(json.dumps({"model": {"component_optims": components}}), encoding="utf-8")
        return name

    return write


def spec(**params: Any) -> dict[str, Any]:
    return {"type": "warm", "params": params}


def plot(
    target: str, *params: str, output: str | Path | None = None, steps: int | None = None, scale: str = "auto"
) -> Plot:
    report = plot_schedules(target, params, output=None if output is None else Path(output), steps=steps, scale=scale)
    assert isinstance(report, Plot)
    assert report.status == 0
    return report


def rendered(report: Plot, width: int = 80) -> str:
    stream = io.StringIO()
    report.render(Console(file=stream, width=width))
    return stream.getvalue()


def failure(target: str, *params: str, **options: Any) -> CommandError:
    with pytest.raises(CommandError) as caught:
        plot(target, *params, **options)
    assert "\n" not in caught.value.message
    return caught.value


# The drawing in the terminal.


@pytest.mark.parametrize("width", [40, 41, 80, 160])
def test_the_drawing_has_every_component_and_keeps_to_the_width(config: Callable[..., str], width: int) -> None:
    names = {f"component_{i}": spec(peak_lr=0.1 / (i + 1), total_steps=1000 * (i + 1)) for i in range(12)}

    text = rendered(plot(config(**names, a_very_long_name_of_one_component_more=spec(peak_lr=0.5))), width)

    assert max(map(cell_len, text.splitlines())) <= width
    assert all(f"component_{i}  warm" in text for i in range(12))
    assert len([line for line in text.splitlines() if BRAILLE.search(line)]) >= 2 * 12


def test_the_drawing_names_first_peak_and_last_rate_and_the_horizon() -> None:
    text = rendered(plot("warm", "peak_lr=2e-3", "total_steps=123456", "end_lr=1e-4"))

    assert "first 0, peak 2e-3 at step 100, last 1e-4; 123,456 steps" in text
    assert "123,455" in text
    assert "log scale" not in text


def test_the_drawing_says_where_its_scale_is_logarithmic() -> None:
    assert "log scale" in rendered(plot("warm", "peak_lr=1", "end_lr=1e-4"))
    assert "log scale" not in rendered(plot("warm", "peak_lr=1", "end_lr=1e-4", scale="linear"))
    assert "log scale" in rendered(plot("warm", "peak_lr=1", scale="log"))


def test_a_curve_is_drawn_where_it_is() -> None:
    # Up over the first half, down over the second.
    lines = rendered(plot("warm", "peak_lr=1", "total_steps=1000", "warmup_steps=500"), 80).splitlines()
    strip = [line[11:].ljust(69) for line in lines if "┤" in line or "│" in line]

    assert len(strip) == 4
    tops = [next(row for row in range(4) if BRAILLE.match(strip[row][column])) for column in range(69)]
    assert tops[0] == tops[-1] == 3
    assert tops[34] == 0
    assert tops[:35] == sorted(tops[:35], reverse=True)
    assert tops[34:] == sorted(tops[34:])


def test_what_moves_has_a_strip_of_its_own() -> None:
    text = rendered(plot("cyclic"))

    assert "momentum from 0.331 to 0.9" in text
    assert "constant 0.1" in text


def test_components_that_are_the_same_share_a_strip_that_names_all(config: Callable[..., str]) -> None:
    text = rendered(plot(config(**{f"twin_{i}": spec(peak_lr=0.1) for i in range(12)})), 60)

    assert all(f"twin_{i}" in text for i in range(12))
    assert text.count("first 0, peak 0.1") == 1


def test_an_encoding_without_braille_gets_ascii() -> None:
    curve = Curve("nähe", "warm", 3, (0, 1, 2), (0.0, 0.1, 0.0), options={"betas[0]": (0.9, 0.8, 0.9)})
    stream = io.StringIO()

    draw_curves(Console(file=stream, width=60), "ein Ärger", [curve], encoding="ascii")

    assert stream.getvalue().isascii()
    assert "n?he" in stream.getvalue()


def test_a_single_step_is_drawn() -> None:
    text = rendered(plot("warm", "peak_lr=1", "total_steps=1", "warmup_steps=0", "end_lr=0.5"))

    assert "constant 0.5; 1 step\n" in text
    assert BRAILLE.search(text)


def test_a_name_cannot_command_the_terminal(config: Callable[..., str]) -> None:
    text = rendered(plot(config(**{"\x1b[31mred[bold]": spec(peak_lr=0.1)})))

    assert "\x1b" not in text
    assert "?[31mred[bold]" in text


def test_into_a_pipe_without_a_width_it_is_not_a_line_without_end() -> None:
    assert max(map(len, rendered(plot("warm", "peak_lr=1"), 10_000).splitlines())) <= 160


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


def test_the_document_has_the_points_of_every_curve(config: Callable[..., str]) -> None:
    document = plot(config(a=spec(peak_lr=0.1, total_steps=20, warmup_steps=4), b={"type": "cyclic"})).document()

    first, second = document["curves"]
    assert (first["component"], first["type"], first["horizon"], first["stepped"]) == ("a", "warm", 20, False)
    assert first["steps"] == list(range(20))
    expected = [0.1 * s / 4 if s < 4 else 0.05 * (1 + math.cos(math.pi * (s - 4) / 15)) for s in range(20)]
    assert first["learning_rates"] == pytest.approx(expected)
    assert (second["horizon"], second["stepped"]) == (20, True)
    assert second["options"]["momentum"] == pytest.approx([0.9 * 0.999**step for step in range(20)])
    json.dumps(document, allow_nan=False)


# What it says when it can't.


def test_values_are_read_as_in_a_configuration(config: Callable[..., str]) -> None:
    (curve,) = plot("warm", "peak_lr=1e-3", "total_steps=1e2", "warmup_steps= 5").curves

    assert curve.horizon == 100
    assert curve.peak == (5, 1e-3)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (["peak_lr"], "'peak_lr' is no parameter: write it as name=value"),
        (["=1"], "'=1' is no parameter"),
        (["peak_lr=1", "peak_lr=2"], "peak_lr is given twice"),
        (["peak_lr=[1"], "peak_lr: .* is no valid YAML"),
        (["peak_lr={a: 1, a: 2}"], "peak_lr: .*'a' stands twice"),
    ],
)
def test_a_malformed_parameter_is_wrong_usage(params: list[str], said: str) -> None:
    error = failure("warm", *params)

    assert error.status == 2
    assert re.search(said, error.message)


def test_every_wrong_value_is_named_on_a_line_of_its_own() -> None:
    error = failure("warm", "peak_lr=-1", "total_steps=many", "warm_steps=3")

    assert (error.status, error.message) == (1, "warm: 3 problems")
    assert [line.split()[1].rstrip(":") for line in error.details[:3]] == ["peak_lr", "total_steps", "warm_steps"]
    assert error.details[3] == "For example: optim plot warm peak_lr=0.1 total_steps=500"


def test_one_wrong_value_is_one_line() -> None:
    assert failure("warm").message == "warm: peak_lr: required, but not given"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("wram", "'wram' is neither a file nor a key. Did you mean 'warm'?"),
        ("zzzzzz", "'zzzzzz' is neither a file nor a key. Keys: .*cyclic, .*warm"),
        ("konfig.yml", "konfig.yml: there is no such file. Did you mean 'config.yaml'?"),
        ("elsewhere/config.yaml", "elsewhere/config.yaml: there is no such file$"),
        ("x" * 300, "neither a file nor a key"),
        (".", "is a folder"),
    ],
)
def test_what_is_neither_a_file_nor_a_key_is_wrong_usage(config: Callable[..., str], target: str, said: str) -> None:
    config(a=spec(peak_lr=0.1))

    error = failure(target)

    assert error.status == 2
    assert re.search(said.replace("?", r"\?"), error.message)


def test_parameters_go_with_a_key_only(config: Callable[..., str]) -> None:
    assert failure(config(a=spec(peak_lr=0.1)), "peak_lr=1").status == 2


def test_a_file_with_the_name_of_a_key_is_the_file_unless_parameters_are_given(config: Callable[..., str]) -> None:
    config("warm", a=spec(peak_lr=0.5))

    assert [curve.component for curve in plot("warm").curves] == ["a"]
    assert [curve.component for curve in plot("warm", "peak_lr=1").curves] == ["warm"]


def test_every_problem_of_a_configuration_is_named(config: Callable[..., str]) -> None:
    error = failure(config(a=spec(peak_lr=-1, foo=2), b={"type": "nothing"}, c={"typ": "warm"}))

    assert error.status == 1
    assert re.fullmatch(r"config\.yaml: \d problems", error.message)
    assert all(any(name in line for line in error.details) for name in ("peak_lr", "foo", "nothing", "typ"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"- 1\n- 2\n",
        b"a: 1\na: 2\n",
        b"a:\n\tb: 1\n",
        b"{",
        b"\xff\xfe\x00",
        b"\x00\x01\x02",
        b"just text",
        b"a: 1",
    ],
)
def test_a_file_that_is_no_configuration_is_one_line_and_status_1(folder: Path, content: bytes) -> None:
    (folder / "config.yaml").write_bytes(content)

    error = failure("config.yaml")

    assert error.status == 1
    assert error.message.startswith("config.yaml:")


@pytest.mark.parametrize(
    ("output", "said", "status"),
    [
        ("a.pdf", "a.pdf: a picture is a .png or an .svg file", 2),
        ("a", "a: a picture is a .png or an .svg file", 2),
        ("nowhere/a.png", "nowhere/a.png: the folder nowhere doesn't exist", 2),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch, output: str, said: str, status: int
) -> None:
    monkeypatch.setattr(module, "curves_of", None)

    error = failure("cyclic", output=output)

    assert (error.message, error.status) == (said, status)


def test_a_write_that_fails_is_one_line_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)

    error = failure("warm", "peak_lr=1", output="a.png")

    assert (error.message, error.status) == ("a.png: can't be written: No space left on device", 1)
    assert not os.listdir(folder)


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "optim_tools.command.picture", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    error = failure("cyclic", output="a.png")

    assert 'pip install "optim-tools[plot]"' in error.message
    assert rendered(plot("cyclic"))


def test_an_optimizer_that_cannot_be_stepped_is_one_line(config: Callable[..., str], folder: Path) -> None:
    error = failure(config(a={"type": "failing"}), output="a.png")

    assert error.status == 1
    assert error.message == "component 'a' (failing): a step fails on a dummy parameter: RuntimeError: no"
    assert os.listdir(folder) == ["config.yaml"]


PLUGIN = """
import torch
class Plain:
    def __init__(self, lr: float = 0.1) -> None:
        self.lr = lr
    def build(self, params):
        print("chatter")
        return torch.optim.SGD(params, lr=self.lr)
class Interrupted(Plain):
    def build(self, params):
        class Optimizer(torch.optim.SGD):
            def step(self, closure=None):
                raise KeyboardInterrupt
        return Optimizer(params, lr=0.1)
"""


@pytest.fixture
def plugin(distribution: Callable[..., Path]) -> None:
    factories = {"plain": "plain_plugin:Plain", "interrupted": "plain_plugin:Interrupted"}
    distribution("plain", factories=factories, modules={"plain_plugin": PLUGIN})


def test_the_command_draws_without_colour_into_a_pipe(plugin: None, optim: Run) -> None:
    done = optim("plot", "plain", "lr=0.25", "--steps", 50, COLUMNS="50")

    assert done.returncode == 0
    assert "constant 0.25; 50 steps" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert "chatter" not in done.stdout
    assert max(map(cell_len, done.stdout.splitlines())) <= 50


def test_the_command_writes_a_picture_and_prints_json(plugin: None, optim: Run, folder: Path) -> None:
    done = optim("plot", "plain", "-o", "a.svg", "--json")

    assert done.returncode == 0
    assert json.loads(done.stdout)["output"] == "a.svg"
    assert (folder / "a.svg").is_file()


def test_an_interrupt_is_status_130_and_leaves_no_file(plugin: None, optim: Run, folder: Path) -> None:
    done = optim("plot", "interrupted", "-o", "a.png")

    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "optim: error: interrupted"
    assert not os.listdir(folder)


def test_a_terminal_sees_how_far_the_steps_are(plugin: None, in_terminal: Callable[..., str]) -> None:
    seen = in_terminal("stderr", "plot", "plain", "--steps", 30000, "-o", "plain.svg")
    assert "stepping plain" in seen
    assert "%" in seen
