"""The packaging checks, on real distributions in a folder: a sound one, and for each check broken ones that it alone
catches."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from optim_core import __version__
from optim_core.discovery.registry import OPTIMIZER_BUILDER_REGISTRY
from optim_tools.conformance import CHECKS, Outcome, Subject, verify
from tools_support import sound_optimizer

Install = Callable[..., Path]
PACKAGING = [check for check in CHECKS if check.family == "packaging"]
STATED = {
    "Metadata-Version": "2.4",
    "Name": "optim-plugin",
    "Version": "1.0",
    "Summary": "AdamW on a schedule",
    "License-Expression": "MIT",
    "Author": "Ada",
    "Requires-Python": ">=3.8",
}
CORE = f"optim-core>=0.0.1,<{__version__}.99"
# The sound factory, of which test_broken_optimizers.py has it that it passes all other checks.
MODULE = "from tools_support.sound_optimizer import SoundFactory as Factory\n"


@dataclass(frozen=True)
class Distribution:
    """A distribution that is sound but for what is given."""

    stated: Mapping[str, str] = field(default_factory=dict)
    lacks: frozenset[str] = frozenset()
    requires: tuple[str, ...] = (CORE, "torch>=1.0")
    description: str = "# A plugin"
    module: str = MODULE
    key: str = "lion.scheduled"
    other_keys: tuple[str, ...] = ()
    typed: bool = True
    package: bool = True

    def install(self, distribution: Install) -> Path:
        """Install it; the import package is `plugin`."""
        fields = {name: text for name, text in {**STATED, **self.stated}.items() if name not in self.lacks}
        lines = [f"{name}: {text}" for name, text in fields.items()]
        lines += [f"Requires-Dist: {requirement}" for requirement in self.requires]
        keys = dict.fromkeys((self.key, *self.other_keys), "plugin:Factory")
        info = distribution(
            "optim-plugin", factories=keys, metadata="\n".join([*lines, "", self.description]), folder="plugin-site"
        )
        if not self.package:
            (info.parent / "plugin.py").write_text(self.module)
            return info
        (info.parent / "plugin").mkdir()
        (info.parent / "plugin" / "__init__.py").write_text(self.module)
        if self.typed:
            (info.parent / "plugin" / "py.typed").touch()
        return info


BROKEN = {
    "packaging-entry-point": {
        "imported by the tests only": (
            Distribution(module=f"{MODULE}import optim_tools\noptim_tools.conformance"),
            "in a fresh interpreter: AttributeError: module 'optim_tools' has no attribute 'conformance' (",
        ),
        "prints": (
            Distribution(module=f"{MODULE}print('hello')"),
            "its import prints 'hello' on standard output",
        ),
        "ends Python": (
            Distribution(
                module=f"{MODULE}import os, sys\nif 'optim_tools.conformance' not in sys.modules: os._exit(3)"
            ),
            "in a fresh interpreter: it ends Python with exit status 3",
        ),
    },
    "packaging-key": {
        "read by YAML as a truth value": (Distribution(key="on"), "the key 'on', which YAML reads as something else"),
        "read by YAML as a number": (Distribution(key="1e3"), "the key '1e3', which YAML reads as something else"),
        "like an option": (Distribution(key="-lion"), "the key '-lion', which the command `optim` takes for"),
        "like a file": (Distribution(key="lion.yaml"), "the key 'lion.yaml', which the command `optim` takes for"),
        "malformed": (Distribution(other_keys=("Lion 2",)), "it offers the key 'Lion 2'"),
    },
    "packaging-metadata": {
        "one thing missing": (Distribution(lacks=frozenset({"Summary"})), "missing or malformed: Summary"),
        "much missing": (
            Distribution(
                stated={"Author": "UNKNOWN", "Version": "1.0-custom-x"},
                lacks=frozenset({"Summary", "License-Expression", "Requires-Python"}),
                description="",
            ),
            "missing or malformed: Version, Summary, a licence (License-Expression), Requires-Python, an author or "
            "maintainer, a description (the README)",
        ),
    },
    "packaging-core-range": {
        "none": (Distribution(requires=()), "it doesn't require optim-core"),
        "in an extra only": (
            Distribution(requires=(f"{CORE}; extra == 'more'",)),
            "it doesn't require optim-core",
        ),
        "no bounds": (Distribution(requires=("optim_core",)), "optim_core has no lower and no upper bound"),
        "no upper bound": (Distribution(requires=("optim-core>=0.0.1",)), "optim-core>=0.0.1 has no upper bound"),
        "another": (
            Distribution(requires=("optim-core>=77,<78",)),
            f"optim-core<78,>=77 doesn't admit the installed optim-core {__version__}",
        ),
    },
    "packaging-requirements": {
        "not installed": (
            Distribution(requires=(CORE, "not-there>=1.0")),
            "it requires not-there>=1.0, which is not installed",
        ),
        "several": (
            Distribution(stated={"Requires-Python": ">=3.99"}, requires=(CORE, "torch<1.0", "what ((")),
            "it requires Python >=3.99, but this is ",
        ),
    },
    "packaging-typed": {
        "no marker": (Distribution(typed=False), "no py.typed in the package of plugin"),
        "a single module": (Distribution(package=False), "no py.typed in the package of plugin"),
    },
}


@pytest.fixture
def install(distribution: Install, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Distribution], Subject]]:
    """Installs a distribution where a fresh interpreter finds it as well, and makes its key the subject."""

    def run(what: Distribution) -> Subject:
        info = what.install(distribution)
        path = [str(info.parent), str(Path(sound_optimizer.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
        return Subject(what.key)

    yield run
    sys.modules.pop("plugin", None)


def test_every_packaging_check_has_a_broken_distribution() -> None:
    assert list(BROKEN) == [check.identifier for check in PACKAGING]


def test_a_sound_distribution_passes(install: Callable[[Distribution], Subject]) -> None:
    results = verify(install(Distribution()), PACKAGING)
    assert {r.identifier: (r.outcome, r.seen) for r in results} == {
        check.identifier: (Outcome.PASSED, "") for check in PACKAGING
    }


@pytest.mark.parametrize(
    ("identifier", "what", "seen"),
    [
        pytest.param(identifier, what, seen, id=f"{identifier}: {name}")
        for identifier, cases in BROKEN.items()
        for name, (what, seen) in cases.items()
    ],
)
def test_a_broken_distribution_is_caught_by_its_check_alone(
    identifier: str, what: Distribution, seen: str, install: Callable[[Distribution], Subject]
) -> None:
    subject = install(what)
    assert subject.target is sound_optimizer.SoundFactory
    faults = {r.identifier: r.seen for r in verify(subject, PACKAGING) if r.outcome.is_fault}
    assert list(faults) == [identifier]
    assert faults[identifier].startswith(seen)


def test_a_key_that_another_distribution_claims_is_named_by_a_sibling(
    install: Callable[[Distribution], Subject], distribution: Install
) -> None:
    distribution("optim-other", factories={"lion.second": "elsewhere:Factory"})
    (result,) = (r for r in verify(install(Distribution(other_keys=("lion.second",))), PACKAGING) if r.outcome.is_fault)
    assert result.identifier == "packaging-key"
    assert result.seen == "the key 'lion.second' is claimed by optim-other 1.0 (elsewhere:Factory) too"


def test_a_distribution_that_only_this_process_finds_is_not_installed(
    distribution: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As pytest does with the `pythonpath` of its settings.
    monkeypatch.delenv("PYTHONPATH", raising=False)
    Distribution().install(distribution)
    (result,) = verify(Subject("lion.scheduled"), [c for c in PACKAGING if c.identifier == "packaging-entry-point"])
    sys.modules.pop("plugin", None)
    assert result.outcome is Outcome.FAILED
    assert "optim-plugin is not installed, and only found on a path" in result.seen


@pytest.mark.parametrize(
    "stated",
    [
        {"License": "Some licence"},
        {"Classifier": "License :: OSI Approved :: MIT License"},
    ],
)
def test_a_licence_may_be_stated_in_older_ways(
    stated: Mapping[str, str], install: Callable[[Distribution], Subject]
) -> None:
    subject = install(Distribution(stated=stated, lacks=frozenset({"License-Expression"})))
    (result,) = verify(subject, [c for c in PACKAGING if c.identifier == "packaging-metadata"])
    assert result.outcome is Outcome.PASSED


@pytest.mark.parametrize("factory", [sound_optimizer.SoundFactory, "sound.in.process"])
def test_what_no_distribution_provides_has_no_packaging(factory: type | str) -> None:
    OPTIMIZER_BUILDER_REGISTRY.register("sound.in.process", sound_optimizer.SoundFactory)
    results = list(verify(Subject(factory), PACKAGING))
    assert {r.outcome for r in results} == {Outcome.NOT_APPLICABLE}
    assert {r.reason for r in results} == {"no distribution provides it"}
