"""`optim plot` draws every component into the terminal, within its width."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from rich.cells import cell_len
from rich.console import Console

from optim_tools.command.terminal_drawing import draw_curves
from optim_tools.inspection.curves import Curve
from tools_support.plotted_schedules import plot, rendered, spec

BRAILLE = re.compile("[\u2801-\u28ff]")


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
