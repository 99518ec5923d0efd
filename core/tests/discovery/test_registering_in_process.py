"""Registering a class in this process: what is taken, refused, replaced and taken back."""

from __future__ import annotations

import sys

import pytest

from core_support.distributions import Install
from core_support.factories_in_process import Mine, Other
from optim_core.discovery.registry import OPTIMIZER_BUILDER_REGISTRY, OptimizerRegistry
from optim_core.errors import DuplicateOptimizerError, InvalidFactoryError, UnknownOptimizerError

pytestmark = pytest.mark.usefixtures("only_fake_distributions")


def test_register_as_a_call_returns_the_class(registry: OptimizerRegistry) -> None:
    assert registry.register("mine", Mine) is Mine
    assert registry.get("mine") is Mine


def test_register_as_a_decorator_returns_the_class(registry: OptimizerRegistry) -> None:
    @registry.register("decorated")
    class Decorated:
        def build(self, params: object) -> None: ...

    assert isinstance(Decorated, type)
    assert registry.get("decorated") is Decorated


def test_registered_entry_says_that_it_is_of_this_process(registry: OptimizerRegistry) -> None:
    registry.register("mine", Mine)

    (entry,) = registry.entries()

    assert (entry.key, entry.group, entry.value) == ("mine", "in-process", f"{Mine.__module__}:Mine")
    assert entry.provider == f"{Mine.__module__}:Mine (registered in this process)"


@pytest.mark.parametrize("key", ["", "Mine", "my key", "mine!", "mïne", "mine\n", 3, None])
def test_malformed_key_is_refused(registry: OptimizerRegistry, key: object) -> None:
    with pytest.raises(ValueError, match="must be lower-case letters"):
        registry.register(key, Mine)  # type: ignore[call-overload]

    assert len(registry) == 0


def test_malformed_key_is_refused_before_the_class_is_decorated(registry: OptimizerRegistry) -> None:
    with pytest.raises(ValueError, match="must be lower-case letters"):
        registry.register("Not A Key")


@pytest.mark.parametrize("key", ["a", "adamw_2", "my.opt-3"])
def test_well_formed_key_is_taken(registry: OptimizerRegistry, key: str) -> None:
    registry.register(key, Mine)

    assert list(registry) == [key]


@pytest.mark.parametrize("factory", [3, "Mine", Mine(), object, len])
def test_only_a_class_that_can_build_is_registered(registry: OptimizerRegistry, factory: object) -> None:
    with pytest.raises(InvalidFactoryError, match=r"'mine' from .* is no optimizer factory"):
        registry.register("mine", factory)  # type: ignore[call-overload]

    assert len(registry) == 0


def test_second_class_under_a_key_is_refused(registry: OptimizerRegistry) -> None:
    registry.register("mine", Mine)

    with pytest.raises(DuplicateOptimizerError, match="replace=True") as caught:
        registry.register("mine", Other)

    assert len(caught.value.providers) == 2
    assert registry.get("mine") is Mine


def test_same_class_may_be_registered_again(registry: OptimizerRegistry) -> None:
    registry.register("mine", Mine)
    registry.register("mine", Mine)

    assert registry.get("mine") is Mine


def test_replace_takes_the_place_of_a_registered_class(registry: OptimizerRegistry) -> None:
    registry.register("mine", Mine)

    registry.register("mine", Other, replace=True)

    assert registry.get("mine") is Other


@pytest.mark.usefixtures("two_plugins")
def test_replace_takes_the_place_of_an_installed_factory_without_importing_it(registry: OptimizerRegistry) -> None:
    registry.register("alpha", replace=True)(Mine)

    assert registry.get("alpha") is Mine
    assert "alpha_plugin" not in sys.modules


@pytest.mark.usefixtures("two_plugins")
def test_unregister_brings_the_installed_factory_back(registry: OptimizerRegistry) -> None:
    registry.register("alpha", Mine, replace=True)

    registry.unregister("alpha")

    assert registry.get("alpha") is sys.modules["alpha_plugin"].Factory
    registry.register("alpha", Mine)
    with pytest.raises(DuplicateOptimizerError):  # the replacement is forgotten with the registration
        registry.get("alpha")


def test_unregister_of_an_unknown_key_names_near_ones(registry: OptimizerRegistry) -> None:
    registry.register("mine", Mine)

    with pytest.raises(UnknownOptimizerError, match="did you mean 'mine'"):
        registry.unregister("mime")


@pytest.mark.usefixtures("two_plugins")
def test_unregister_of_an_installed_key_says_what_to_do_instead(registry: OptimizerRegistry) -> None:
    with pytest.raises(UnknownOptimizerError, match=r"provided by alpha-plugin 1\.1 .* OPTIM_DISABLE_PLUGINS"):
        registry.unregister("alpha")


def test_a_plugin_may_register_the_class_that_its_entry_point_names(distribution: Install) -> None:
    source = """
from optim_core import OPTIMIZER_BUILDER_REGISTRY

@OPTIMIZER_BUILDER_REGISTRY.register("twofold")
class Factory:
    def build(self, params): ...
"""
    distribution("optim-twofold", modules={"twofold": source}, factories={"twofold": "twofold:Factory"})
    OPTIMIZER_BUILDER_REGISTRY.refresh()
    first = OPTIMIZER_BUILDER_REGISTRY.get("twofold")
    assert OPTIMIZER_BUILDER_REGISTRY.get("twofold") is first
    assert first.__name__ == "Factory"
