"""The distributions as they are built and installed, and an outsider's beside them."""

import email
import os
import subprocess
import sys
import tarfile
import textwrap
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import optim_core

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = {
    "core": None,
    "tools": None,
    "plugins/adamw-warmup-cosine": "adamw_warmup_cosine_decay = optim_adamw_warmup_cosine:AdamWWarmupCosineFactory",
    "plugins/adamw-onecycle": "adamw_cosine_schedule = optim_adamw_onecycle:AdamWOneCycleFactory",
    "plugins/schedule-free-radam": "schedule_free_radam = optim_schedule_free_radam:ScheduleFreeRAdamFactory",
}


VERSION = optim_core.__version__
MAJOR, MINOR = VERSION.split(".")[:2]
CORE_RANGE = f"optim-core<{MAJOR}.{int(MINOR) + 1},>={MAJOR}.{MINOR}"


def project(folder):
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def python(*arguments, path=None):
    environment = dict(os.environ)
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    command = [sys.executable, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize(("folder", "entry_point"), DISTRIBUTIONS.items())
def test_each_builds_a_wheel_and_an_sdist_of_its_own(tmp_path, folder, entry_point):
    python("-m", "build", "--no-isolation", "--outdir", tmp_path, ROOT / folder)
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")

    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = email.message_from_bytes(archive.read(next(n for n in names if n.endswith("/METADATA"))))
        entry_points = "".join(archive.read(n).decode() for n in names if n.endswith("/entry_points.txt"))
    assert any(name.endswith("/py.typed") for name in names)
    assert not any("tests" in Path(name).parts for name in names)
    assert any(name.endswith("LICENSE") for name in names)
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Summary"]
    assert metadata.get_payload().startswith("# optim-")
    assert (entry_point or "") in entry_points
    assert ("[optim.factories]" in entry_points) is (entry_point is not None)
    assert metadata["Version"] == VERSION
    if entry_point is not None:
        assert CORE_RANGE in metadata.get_all("Requires-Dist")
    with tarfile.open(sdist) as archive:
        assert any("/tests/" in name and "/test_" in name for name in archive.getnames())


def test_tools_and_core_ask_for_each_other_in_the_very_same_version():
    assert f"optim-core=={VERSION}" in project("tools")["dependencies"]
    assert project("core")["optional-dependencies"]["tools"] == [f"optim-tools=={VERSION}"]
    assert project(".")["version"] == VERSION


def test_the_changelog_knows_the_version():
    assert f"\n## {VERSION} (" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_tools_are_what_depends_on_a_command_line():
    assert not {"click", "rich", "docstring-parser", "packaging"} & {
        Requirement(line).name for line in project("core")["dependencies"]
    }


def test_the_root_installs_all_five(tmp_path):
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(
            archive.read(next(n for n in archive.namelist() if n.endswith("/METADATA")))
        )
    required = filter(None, (Requirement(line).url for line in metadata.get_all("Requires-Dist")))
    assert [uri.removeprefix(ROOT.as_uri() + "/") for uri in sorted(required)] == sorted(DISTRIBUTIONS)
    assert "Private :: Do Not Upload" in metadata.get_all("Classifier")


OUTSIDER = """
from dataclasses import dataclass
import torch
from optim_core import ScheduledOptimizer, WarmupCosine

class ScheduledNAdam(ScheduledOptimizer, torch.optim.NAdam):
    '''NAdam on a schedule.'''

@dataclass
class NAdamFactory:
    '''NAdam with warmup and cosine decay.'''
    peak_lr: float
    total_steps: int

    def build(self, params):
        return ScheduledNAdam(params, schedule=WarmupCosine(peak_lr=self.peak_lr, total_steps=self.total_steps))
"""

TRAIN = """
import torch
from optim_core import OPTIMIZER_BUILDER_REGISTRY, build_optimizers
entry = {e.key: e for e in OPTIMIZER_BUILDER_REGISTRY.entries()}["outside.nadam"]
assert (entry.distribution, entry.version) == ("optim-outsider", "3.2")
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
params = {"peak_lr": "1e-1", "total_steps": 100}
optimizers = build_optimizers({"net": net}, {"net": {"type": "outside.nadam", "params": params}})
inputs = torch.randn(64, 4)
losses = []
for _ in range(100):
    optimizers.zero_grad()
    loss = (net(inputs) - inputs.sum(dim=1, keepdim=True)).square().mean()
    loss.backward()
    optimizers.step()
    losses.append(loss.item())
assert losses[-1] < losses[0] / 100, losses
assert optimizers.learning_rates() == {"net": 0.0}
print("trained")
"""


def test_a_foreign_plugin_installed_by_pip_is_listed_and_trains(tmp_path):
    project = tmp_path / "outsider"
    project.mkdir()
    (project / "optim_outsider.py").write_text(OUTSIDER)
    (project / "pyproject.toml").write_text(
        textwrap.dedent("""
            [build-system]
            requires = ["hatchling"]
            build-backend = "hatchling.build"
            [project]
            name = "optim-outsider"
            version = "3.2"
            dependencies = ["optim-core>=0.1"]
            [project.entry-points."optim.factories"]
            "outside.nadam" = "optim_outsider:NAdamFactory"
            [tool.hatch.build]
            include = ["optim_outsider.py"]
        """)
    )
    site = tmp_path / "site"
    pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", site, project]
    python(*pip)

    assert python("-W", "error", "-c", TRAIN, path=site) == "trained\n"


def test_listing_with_everything_installed_imports_no_plugin_and_no_torch():
    code = """
        import sys
        from optim_core import OPTIMIZER_BUILDER_REGISTRY
        assert len(OPTIMIZER_BUILDER_REGISTRY.keys()) == len(OPTIMIZER_BUILDER_REGISTRY.entries()) == 3
        loaded = {name.partition(".")[0] for name in sys.modules}
        print(sorted(name for name in loaded if name in {"torch", "schedulefree"} or name.startswith("optim")))
    """
    assert python("-c", textwrap.dedent(code)) == "['optim_core']\n"


def test_using_one_key_imports_that_plugin_only():
    code = """
        import sys
        from optim_core import OPTIMIZER_BUILDER_REGISTRY
        OPTIMIZER_BUILDER_REGISTRY.get("adamw_cosine_schedule")
        print(sorted(name for name in sys.modules if name.startswith("optim_") and "." not in name))
    """
    assert python("-c", textwrap.dedent(code)) == "['optim_adamw_onecycle', 'optim_core']\n"
