"""The registry: which keys there are, who provides them, and which one was meant."""

from __future__ import annotations

import sys
import threading

import pytest

from core_support.distributions import FACTORY, Install
from core_support.factories_in_process import Mine
from optim_core.discovery.registry import OPTIMIZER_BUILDER_REGISTRY, OptimizerRegistry
from optim_core.errors import UnknownOptimizerError

pytestmark = pytest.mark.usefixtures("only_fake_distributions")


def test_an_empty_registry_says_how_to_fill_it(registry: OptimizerRegistry) -> None:
    assert (list(registry), len(registry), repr(registry)) == ([], 0, "<OptimizerRegistry: no keys>")
    with pytest.raises(UnknownOptimizerError, match=r"none is installed\. Install a distribution .*\.register\(\)"):
        registry.get("adamw")


@pytest.mark.usefixtures("two_plugins")
def test_keys_are_listed_without_importing_a_plugin(registry: OptimizerRegistry) -> None:
    assert "alpha" in registry
    assert "gamma" not in registry
    assert 3 not in registry
    assert list(registry) == list(registry.keys()) == ["alpha", "beta"]
    assert len(registry) == 2
    assert repr(registry) == "<OptimizerRegistry: alpha, beta>"
    assert {"alpha_plugin", "beta_plugin"}.isdisjoint(sys.modules)


@pytest.mark.usefixtures("two_plugins")
def test_entries_say_who_provides_what_without_importing(registry: OptimizerRegistry) -> None:
    found = [(e.key, e.distribution, e.version, e.value) for e in registry.entries()]

    assert found == [
        ("alpha", "alpha-plugin", "1.1", "alpha_plugin:Factory"),
        ("beta", "beta-plugin", "2.2", "beta_plugin:Factory"),
    ]
    assert {"alpha_plugin", "beta_plugin"}.isdisjoint(sys.modules)


@pytest.mark.usefixtures("two_plugins")
def test_getting_one_key_imports_no_other(registry: OptimizerRegistry) -> None:
    factory = registry.get("beta")

    assert factory is sys.modules["beta_plugin"].Factory
    assert "alpha_plugin" not in sys.modules


@pytest.mark.usefixtures("two_plugins")
def test_get_and_index_are_the_same_class_every_time(registry: OptimizerRegistry) -> None:
    first = registry.get("alpha")
    del sys.modules["alpha_plugin"]  # a second import would make a second class

    assert registry["alpha"] is first
    assert registry.get("alpha") is first


def test_what_is_installed_later_shows_after_refresh(registry: OptimizerRegistry, distribution: Install) -> None:
    assert "fake" not in registry
    distribution("fake-plugin", factories={"fake": "fake_plugin:Factory"}, modules={"fake_plugin": FACTORY})
    assert "fake" not in registry

    registry.refresh()

    assert registry.get("fake") is sys.modules["fake_plugin"].Factory


def test_what_is_upgraded_is_imported_anew_after_refresh(registry: OptimizerRegistry, distribution: Install) -> None:
    modules = {"old_module": FACTORY, "new_module": FACTORY}
    info = distribution("fake-plugin", factories={"fake": "old_module:Factory"}, modules=modules)
    assert registry.get("fake").__module__ == "old_module"
    (info / "entry_points.txt").write_text("[optim.factories]\nfake = new_module:Factory\n", encoding="utf-8")

    registry.refresh()

    assert registry.get("fake").__module__ == "new_module"


def test_what_is_uninstalled_goes_at_refresh(registry: OptimizerRegistry, distribution: Install) -> None:
    info = distribution("fake-plugin", factories={"fake": "fake_plugin:Factory"}, modules={"fake_plugin": FACTORY})
    registry.get("fake")
    (info / "entry_points.txt").write_text("", encoding="utf-8")

    assert "fake" in registry
    registry.refresh()

    assert "fake" not in registry
    with pytest.raises(UnknownOptimizerError):
        registry.get("fake")


def test_refresh_keeps_what_was_registered_in_process(registry: OptimizerRegistry) -> None:
    registry.register("mine", Mine)

    registry.refresh()

    assert registry.get("mine") is Mine


def test_many_threads_get_one_class(registry: OptimizerRegistry, distribution: Install) -> None:
    slow = "import time\ntime.sleep(0.05)\n" + FACTORY
    distribution("slow-plugin", factories={"slow": "slow_plugin:Factory"}, modules={"slow_plugin": slow})
    got: list[type] = []
    threads = [threading.Thread(target=lambda: got.append(registry.get("slow"))) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert got == [sys.modules["slow_plugin"].Factory] * 8


@pytest.mark.usefixtures("two_plugins")
def test_unknown_key_is_a_key_error_with_near_matches_and_all_known(registry: OptimizerRegistry) -> None:
    with pytest.raises(KeyError) as caught:
        registry.get("alhpa")

    error = caught.value
    assert isinstance(error, UnknownOptimizerError)
    assert (error.key, error.near, error.known, error.reason) == ("alhpa", ("alpha",), ("alpha", "beta"), None)
    assert str(error).startswith("no optimizer is known as 'alhpa'; did you mean 'alpha'? Known: alpha, beta.")


@pytest.mark.usefixtures("two_plugins")
def test_unknown_key_far_from_all_lists_them_only(registry: OptimizerRegistry) -> None:
    with pytest.raises(UnknownOptimizerError, match=r"known as 'xyzzy'\. Known: alpha, beta\. ") as caught:
        registry["xyzzy"]

    assert caught.value.near == ()


@pytest.mark.parametrize("asked", ["ADAMW_COSINE", "adamw-cosine", "AdamW_Cosine"])
def test_near_matches_see_through_case_and_dashes(registry: OptimizerRegistry, asked: str) -> None:
    registry.register("adamw_cosine", Mine)

    with pytest.raises(UnknownOptimizerError) as caught:
        registry.get(asked)

    assert caught.value.near == ("adamw_cosine",)


@pytest.mark.parametrize("key", [None, 3])
def test_a_key_that_is_no_string_is_unknown(registry: OptimizerRegistry, key: object) -> None:
    with pytest.raises(UnknownOptimizerError, match=f"'{key}'"):
        registry.get(key)  # type: ignore[arg-type]


def test_registries_know_nothing_of_each_other(registry: OptimizerRegistry) -> None:
    registry.register("mine", Mine)

    assert "mine" not in OptimizerRegistry()
    assert "mine" not in OPTIMIZER_BUILDER_REGISTRY
