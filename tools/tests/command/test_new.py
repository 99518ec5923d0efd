"""`optim new`: a complete plugin, or nothing and the reason."""

from __future__ import annotations

import ast
import errno
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from optim_tools.command.failures import CommandError
from optim_tools.command.new_plugin import new_plugin

Run = Callable[..., subprocess.CompletedProcess[str]]
Install = Callable[..., Path]

OWN = {
    ".github/workflows/ci.yml",
    ".gitignore",
    "LICENSE",
    "README.md",
    "noxfile.py",
    "pyproject.toml",
    "src/optim_my_lion/__init__.py",
    "src/optim_my_lion/factory.py",
    "src/optim_my_lion/optimizer.py",
    "src/optim_my_lion/py.typed",
    "tests/test_my_lion.py",
}

# An optimizer of somebody's own, in the folder that they work in; it can't be pickled.
STRAY = '''
import torch

class Stray(torch.optim.Optimizer):
    """Moves by the gradient.

    Args:
        lr: the rate.
    """

    def __init__(self, params, lr=1e-2, every: int = 1):
        if lr <= 0:
            raise ValueError(lr)
        super().__init__(params, {"lr": lr})

    def __reduce__(self):
        raise TypeError("no pickles")

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(group["lr"] * parameter.grad)
        return loss
'''


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def project(folder: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def factory_fields(path: Path) -> dict[str, str]:
    """The fields of the factory, with type and default as they are written."""
    (factory,) = (node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef))
    fields = [node for node in factory.body if isinstance(node, ast.AnnAssign)]
    return {
        ast.unparse(field.target): f"{ast.unparse(field.annotation)} = {field.value and ast.unparse(field.value)}"
        for field in fields
        if "ClassVar" not in ast.unparse(field.annotation)
    }


def test_a_new_plugin_is_complete_and_what_to_do_next_is_told(optim: Run, folder: Path) -> None:
    result = optim("new", "my-lion")

    assert result.returncode == 0, result.stderr
    assert files(folder / "optim-my-lion") == OWN
    assert [path.name for path in folder.iterdir()] == ["optim-my-lion"]
    assert result.stdout.partition("Next\n")[2] == (
        "python -m pip install --editable './optim-my-lion[dev]'\n"
        "optim verify my_lion\n"
        "python -m build ./optim-my-lion\n"
        "python -m twine upload ./optim-my-lion/dist/*\n"
    )


def test_what_is_written_is_well_formed(optim: Run, folder: Path) -> None:
    optim("new", "my-lion")

    written = folder / "optim-my-lion"
    assert project(written)["entry-points"] == {"optim.factories": {"my_lion": "optim_my_lion:MyLionFactory"}}
    workflow = yaml.safe_load((written / ".github" / "workflows" / "ci.yml").read_text())
    assert set(workflow["jobs"]) == {"tests", "checks"}
    for name in OWN:
        text = (written / name).read_text(encoding="utf-8")
        assert "%{" not in text
        assert max(map(len, text.splitlines()), default=0) <= 120
        if name.endswith(".py"):
            ast.parse(text)


def test_it_needs_neither_torch_nor_a_plugin(optim: Run, distribution: Install, folder: Path) -> None:
    broken = {"torch": "raise ImportError('no torch')", "other": "raise ImportError('no plugin')"}
    distribution("other", factories={"other": "other:Factory"}, modules=broken)

    assert optim("new", "my-lion").returncode == 0
    assert optim("new", "my-puma", "--bare").returncode == 0


def test_json_has_everything(optim: Run, folder: Path) -> None:
    document = json.loads(optim("new", "my-lion", "--json").stdout)

    assert set(document.pop("files")) == OWN
    assert len(document.pop("next")) == 4
    assert document == {
        "folder": "optim-my-lion",
        "distribution": "optim-my-lion",
        "package": "optim_my_lion",
        "key": "my_lion",
        "factory": "optim_my_lion:MyLionFactory",
        "license": "MIT",
        "wrapped": None,
    }


def test_author_licence_key_and_place_can_be_chosen(optim: Run, folder: Path) -> None:
    elsewhere = folder / "with a space"
    elsewhere.mkdir()
    options = ["--key", "lion.v2", "--license", "apache-2.0", "--author", 'Åsa "A" Öst', "--email", "asa@example.org"]

    result = optim("new", "my-lion", "--directory", elsewhere, *options)

    written = elsewhere / "optim-my-lion"
    assert result.returncode == 0, result.stderr
    assert project(written)["authors"] == [{"name": 'Åsa "A" Öst', "email": "asa@example.org"}]
    assert project(written)["license"] == "Apache-2.0"
    assert project(written)["entry-points"]["optim.factories"] == {"lion.v2": "optim_my_lion:MyLionFactory"}
    assert 'Åsa "A" Öst' in (written / "LICENSE").read_text(encoding="utf-8")
    assert f"--editable '{written}[dev]'\n" in result.stdout


def test_a_proprietary_plugin_is_not_to_be_uploaded(optim: Run, folder: Path) -> None:
    result = optim("new", "my-lion", "--license", "proprietary")

    assert "Private :: Do Not Upload" in project(folder / "optim-my-lion")["classifiers"]
    assert "twine" not in result.stdout.partition("Next")[2]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_there_is_not_overwritten(optim: Run, folder: Path, kind: str) -> None:
    target = folder / "optim-my-lion"
    if kind == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / "README.md").write_text("mine")

    result = optim("new", "my-lion")

    assert result.returncode == 2
    assert result.stderr == (
        "optim: error: optim-my-lion is there already; remove it, or choose another name or --directory\n"
    )
    assert (target if kind == "file" else target / "README.md").read_text() == "mine"
    assert [path.name for path in folder.iterdir()] == ["optim-my-lion"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["My-Lion"], "'My-Lion': it has capital letters; 'my-lion' would do"),
        (["my lion"], "'my lion': it has ' '; a name has letters from a to z, digits and hyphens"),
        (["core"], "'core': it is reserved: it would be the distribution optim-core"),
        (["taken"], "'taken': optim-other 1.0 has this key already; choose another name, or a key with --key"),
        (["lion", "--key", "taken"], "'taken': optim-other 1.0 has this key already; choose another key"),
        (["lion", "--key", "A"], "'A': is no key"),
        (["lion", "--key", "null"], "'null': is no text where YAML reads it without quotes"),
        (["lion", "--author", ""], "the author can't be written into the package: '' is no name"),
        (["lion", "--email", "nobody"], "the author can't be written into the package: 'nobody' is no e-mail address"),
        (["lion", "--directory", "nowhere"], "Directory 'nowhere' does not exist"),
        (["lion", "--license", "WTFPL"], "'WTFPL' is not one of"),
    ],
)
def test_a_command_line_that_cannot_be_followed_leaves_nothing(
    optim: Run, distribution: Install, folder: Path, arguments: list[str], reason: str
) -> None:
    distribution("optim-other", factories={"taken": "other:Factory"})

    result = optim("new", *arguments)

    assert result.returncode == 2
    assert reason in result.stderr.splitlines()[0]
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(optim: Run, folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    folder.chmod(0o500)

    result = optim("new", "my-lion")

    folder.chmod(0o700)
    assert result.returncode == 1
    assert result.stderr == "optim: error: optim-my-lion can't be written: Permission denied\n"


def test_bare_is_a_factory_around_a_placeholder(optim: Run, folder: Path) -> None:
    result = optim("new", "my-lion", "--bare")

    assert result.returncode == 0, result.stderr
    assert files(folder / "optim-my-lion") == OWN - {"src/optim_my_lion/optimizer.py"}
    assert "put your own class in its place" in result.stdout


@pytest.mark.slow
def test_arguments_of_a_wrapped_class_become_keys(optim: Run, folder: Path) -> None:
    result = optim("new", "my-lion", "--wrap", "torch.optim:NAdam", "--no-verify", "--json")

    assert result.returncode == 0, result.stderr
    assert factory_fields(folder / "optim-my-lion" / "src" / "optim_my_lion" / "factory.py") == {
        "lr": "LearningRate = 0.002",
        "betas": "tuple[Beta, Beta] = (0.9, 0.999)",
        "eps": "NonNegative = 1e-08",
        "weight_decay": "NonNegative = 0",
        "momentum_decay": "NonNegative = 0.004",
        "decoupled_weight_decay": "bool = False",
        "foreach": "bool | None = None",
        "maximize": "bool = False",
        "capturable": "bool = False",
        "differentiable": "bool = False",
    }
    wrapped = json.loads(result.stdout)["wrapped"]
    assert wrapped["class"] == "torch.optim:NAdam"
    assert wrapped["requirement"].startswith("torch>=")
    assert not wrapped["verified"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reference", "status", "reason"),
    [
        ("NAdam", 2, "must be package.module:Class, as in torch.optim:NAdam"),
        ("torch.optim:NAdm", 2, "there is no 'NAdm' in it. Did you mean 'NAdam'?"),
        ("torch.optim.lr_scheduler:LRScheduler", 2, "is no torch.optim.Optimizer"),
        ("helped:Lion", 2, "imports raising_helper, which is neither of Python itself nor of an installed"),
        ("raising:Lion", 1, "importing 'raising' raises RuntimeError: no GPU"),
    ],
)
def test_what_cannot_be_wrapped_is_told(optim: Run, folder: Path, reference: str, status: int, reason: str) -> None:
    (folder / "raising.py").write_text("raise RuntimeError('no GPU')")
    (folder / "raising_helper.py").write_text("X = 1")
    (folder / "helped.py").write_text(f"from raising_helper import X{STRAY.replace('Stray', 'Lion')}")

    result = optim("new", "my-lion", "--wrap", reference)

    assert result.returncode == status
    assert result.stderr.startswith(f"optim: error: --wrap {reference!r}: ")
    assert reason in result.stderr.splitlines()[0]
    assert not list(folder.glob("*optim-my-lion*"))


@pytest.mark.slow
def test_a_wrapped_class_is_held_to_the_conformance_kit(optim: Run, folder: Path) -> None:
    (folder / "stray.py").write_text(STRAY)

    result = optim("new", "my-lion", "--wrap", "stray:Stray")

    written = folder / "optim-my-lion" / "src" / "optim_my_lion"
    assert result.returncode == 0, result.stderr
    # Of no distribution, and so copied.
    assert (written / "stray.py").read_text() == STRAY
    factory = (written / "factory.py").read_text()
    assert "from optim_my_lion.stray import Stray\n" in factory
    assert factory_fields(written / "factory.py") == {"lr": "Annotated[float, Gt(0)] = 0.01", "every": "int = 1"}
    assert "complex=True" in factory
    assert '"state-pickle": "seen when this was generated: TypeError: no pickles",' in factory
    assert "  state-pickle fails: TypeError: no pickles\n" in result.stdout
    assert "- `state-pickle`: TypeError: no pickles\n" in (folder / "optim-my-lion" / "README.md").read_text()


def test_checks_that_cannot_be_carried_out_are_not_blamed_on_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr("optim_tools.command.verify_key.verify_key", fail)

    with pytest.raises(CommandError, match="the conformance kit can't be carried out: no more processes"):
        new_plugin(
            "my-lion",
            key=None,
            bare=False,
            wrap="torch.optim:NAdam",
            directory=tmp_path,
            license_name="MIT",
            author="A",
            email=None,
            verify=True,
            timeout=60,
        )

    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(folder: Path, script: Path) -> None:
    (folder / "stray.py").write_text(STRAY)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [str(script), "new", "my-lion", "--wrap", "stray:Stray"]
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(folder.glob(".optim-my-lion*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)

    assert (process.returncode, said.splitlines()[-1]) == (130, "optim: error: interrupted")
    assert {path.name for path in folder.iterdir()} <= {"stray.py", "__pycache__"}
