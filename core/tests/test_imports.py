"""What importing and listing cost, and that the lazy names are all there."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import optim_core

STUB = Path(optim_core.__file__).with_suffix(".pyi")
HEAVY = ("torch", "numpy", "pydantic", "yaml", "pluggy")


def modules_after(code: str, *folders: Path) -> set[str]:
    """The names in sys.modules after a fresh interpreter has run `code`."""
    path = os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    program = f"{code}\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_heavy() -> None:
    modules = modules_after("import optim_core")

    assert "optim_core" in modules
    assert modules.isdisjoint(HEAVY)


def test_listing_keys_imports_neither_plugins_nor_anything_heavy(distribution: Callable[..., Path]) -> None:
    info = distribution(
        "fake-plugin", factories={"fake": "fake_plugin:Factory"}, modules={"fake_plugin": "import torch"}
    )
    listing = """
from optim_core import OPTIMIZER_BUILDER_REGISTRY as registry
assert "fake" in registry and "fake" in list(registry) and len(registry) and "fake" in registry.keys()
assert "fake-plugin" in [entry.distribution for entry in registry.entries()]
repr(registry)
"""

    modules = modules_after(listing, info.parent)

    assert "optim_core.discovery.registry" in modules
    assert modules.isdisjoint((*HEAVY, "fake_plugin"))


def test_listing_keys_imports_nothing_that_entries_and_errors_need(distribution: Callable[..., Path]) -> None:
    info = distribution("fake-plugin", factories={"fake": "fake_plugin:Factory"})
    listing = "from optim_core import OPTIMIZER_BUILDER_REGISTRY as r; assert 'fake' in r and list(r) and len(r)"

    modules = modules_after(listing, info.parent)

    assert modules.isdisjoint(
        ("dataclasses", "logging", "email.parser", "optim_core.discovery.factory_entry", "optim_core.errors")
    )


def test_entries_are_had_without_a_parser_of_whole_files(distribution: Callable[..., Path]) -> None:
    info = distribution("fake-plugin", factories={"fake": "fake_plugin:Factory"})
    listing = "from optim_core import OPTIMIZER_BUILDER_REGISTRY as r; assert 'fake' in [e.key for e in r.entries()]"

    assert "email.parser" not in modules_after(listing, info.parent)


def test_reading_a_configuration_imports_no_torch_and_no_plugin(
    distribution: Callable[..., Path], tmp_path: Path
) -> None:
    info = distribution(
        "fake-plugin", factories={"fake": "fake_plugin:Factory"}, modules={"fake_plugin": "import torch"}
    )
    config = tmp_path / "config.yaml"
    config.write_text("backbone: {type: fake}", encoding="utf-8")

    modules = modules_after(
        f"from optim_core.configuration.reading import read_configuration; read_configuration({str(config)!r})",
        info.parent,
    )

    assert "optim_core.configuration.reading" in modules
    assert modules.isdisjoint(("torch", "fake_plugin"))


def test_using_one_key_imports_that_plugin_only(distribution: Callable[..., Path]) -> None:
    source = "class Factory:\n    def build(self, params): ..."
    info = distribution(
        "two-plugins",
        factories={"one": "plugin_one:Factory", "two": "plugin_two:Factory"},
        modules={"plugin_one": source, "plugin_two": source},
    )

    modules = modules_after("import optim_core; optim_core.OPTIMIZER_BUILDER_REGISTRY.get('one')", info.parent)

    assert "plugin_one" in modules
    assert "plugin_two" not in modules


@pytest.mark.parametrize("name", optim_core.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(optim_core, name) is not None


def test_public_names_are_sorted_and_unique() -> None:
    names = optim_core.__all__

    assert names == sorted(set(names))


@pytest.mark.parametrize("name", optim_core.__all__)
def test_each_lazy_name_is_public_in_its_own_module(name: str) -> None:
    homes = re.findall(rf"^from (\S+) import {name} as {name}$", STUB.read_text(encoding="utf-8"), flags=re.MULTILINE)

    (home,) = homes
    assert name in importlib.import_module(home, "optim_core").__all__


def test_dir_lists_public_names_before_they_are_used() -> None:
    code = "import optim_core; assert set(optim_core.__all__) <= set(dir(optim_core)), dir(optim_core)"

    assert "torch" not in modules_after(code)


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"optim_core.*nonsense"):
        optim_core.nonsense  # noqa: B018


def test_unknown_name_cannot_be_imported() -> None:
    with pytest.raises(ImportError, match="nonsense"):
        exec("from optim_core import nonsense")
