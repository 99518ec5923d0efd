"""The benchmarks' runner: that it measures, and writes down what it measured. No time is asserted."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
ROWS = [
    "adamw-step/4-small/adamw_warmup_cosine_decay",
    "state/file/adamw_cosine_schedule",
    "peak-memory/first/adamw_warmup_cosine_decay",
    "components/few",
]


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What a quick run of some rows printed, and wrote as JSON and as a picture; and the rows by name."""
    folder = tmp_path_factory.mktemp("runs") / "made"
    json_path, png_path = folder / "figures.json", folder / "figures.png"
    output = run("--quick", "--rounds", 2, "--only", *ROWS, "gpu", "--json", json_path, "--png", png_path)
    assert output.returncode == 0, output.stderr
    figures = json.loads(json_path.read_text())
    return SimpleNamespace(
        printed=output.stdout,
        figures=figures,
        picture=png_path.read_bytes(),
        rows={row["name"]: row for row in figures["rows"]},
    )


def test_a_run_gives_table_json_and_picture(measured):
    for name in ROWS:
        assert measured.rows[name]["status"] == "measured"
        assert measured.rows[name]["ratio"]["value"] > 0
        assert f"| {name} " in measured.printed
    assert measured.picture.startswith(PNG_SIGNATURE)


def test_only_what_was_asked_for_is_measured(measured):
    assert [name for name in measured.rows if not name.startswith("gpu/")] == ROWS


def test_figures_come_with_the_machine_and_the_versions(measured):
    machine, versions = measured.figures["machine"], measured.figures["versions"]
    assert machine.keys() >= {"processor", "cores", "threads", "gpu"}
    assert versions.keys() == {"Python", "torch", "schedulefree", "optim-core"}
    for stated in (machine["processor"], *versions.values()):
        assert stated in measured.printed


def test_the_ratio_is_to_the_fastest_of_the_others(measured):
    row = measured.rows["adamw-step/4-small/adamw_warmup_cosine_decay"]
    assert len(row["theirs"]) == 2
    fastest = min(row["theirs"], key=lambda samples: samples["median"])
    assert row["fastest"] == fastest["name"]
    assert row["ratio"]["value"] == pytest.approx(row["ours"]["median"] / fastest["median"])
    ratios = [a / b for a, b in zip(row["ours"]["values"], fastest["values"], strict=True)]
    assert row["ratio"]["values"] == pytest.approx(ratios)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak is read from /proc")
def test_peak_memory_has_parameter_gradient_and_state(measured):
    one_of_each = 4 * 512 * 512 * 4
    (bare,) = measured.rows["peak-memory/first/adamw_warmup_cosine_decay"]["theirs"]
    assert 4 * one_of_each <= min(bare["values"]) < 6 * one_of_each


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_the_machine_has_not_got_is_said_and_is_no_failure(measured):
    assert {row["status"] for name, row in measured.rows.items() if name.startswith("gpu/")} == {"not available"}
    assert "there is no GPU" in measured.printed


def test_every_line_of_the_table_asked_for_has_a_row():
    names = [line.partition(":")[0] for line in run("--list").stdout.splitlines()]
    assert len(set(names)) == len(names)
    families = list(dict.fromkeys(name.partition("/")[0] for name in names))
    assert families == [
        "adamw-step",
        "schedule-free-step",
        "first-step",
        "discovery",
        "building",
        "state",
        "peak-memory",
        "components",
        "command",
        "gpu",
    ]
    for beginning in (
        *(f"adamw-step/{size}" for size in ("large", "4-small", "1000-small", "48-tensors")),
        *(f"schedule-free-step/{size}" for size in ("large", "large-adamw", "4-small", "100-small", "1000-small")),
        *(f"state/{what}" for what in ("save", "load", "file")),
        *(f"gpu/{what}" for what in ("adamw-step", "schedule-free-step", "memory-limit", "overhead", "graph")),
    ):
        assert any(f"{name}/".startswith(f"{beginning}/") for name in names), beginning


def test_an_unknown_row_is_refused():
    output = run("--only", "adamw-stop")
    assert output.returncode == 2
    assert "adamw-stop" in output.stderr
