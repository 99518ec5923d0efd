"""Plugins that can't be imported or offer no factory: an error for their key, and for no other."""

from __future__ import annotations

import pickle
import sys

import pytest

from core_support.distributions import FACTORY, Install
from optim_core.discovery.registry import OptimizerRegistry
from optim_core.errors import FactoryLoadError, InvalidFactoryError

pytestmark = pytest.mark.usefixtures("only_fake_distributions")

FAILURES = {
    "missing module": (None, ModuleNotFoundError),
    "failing import": ("import no_such_module_at_all", ModuleNotFoundError),
    "syntax error": ("def (:", SyntaxError),
    "missing attribute": ("", AttributeError),
    "raises": ("raise RuntimeError('no GPU')", RuntimeError),
    "exits": ("raise SystemExit(3)", SystemExit),
}


@pytest.mark.parametrize(("source", "cause"), FAILURES.values(), ids=FAILURES)
def test_plugin_that_fails_to_import_fails_for_its_key_only(
    registry: OptimizerRegistry, distribution: Install, source: str | None, cause: type[BaseException]
) -> None:
    modules = {"sound_plugin": FACTORY} | ({} if source is None else {"failing_plugin": source})
    distribution("failing-plugin", "0.3", factories={"failing": "failing_plugin:Factory"})
    distribution("sound-plugin", factories={"sound": "sound_plugin:Factory"}, modules=modules)

    with pytest.raises(FactoryLoadError) as caught:
        registry.get("failing")

    error = caught.value
    assert (error.key, error.distribution, error.version) == ("failing", "failing-plugin", "0.3")
    assert error.value == "failing_plugin:Factory"
    assert type(error.__cause__) is cause
    assert error.cause is error.__cause__
    assert isinstance(error, ImportError)
    for part in ("'failing'", "failing-plugin 0.3", "failing_plugin:Factory", cause.__name__, str(error.cause)):
        assert part in str(error)
    assert registry.get("sound") is sys.modules["sound_plugin"].Factory
    assert "failing" in registry


def test_plugin_mended_after_a_failure_can_be_had(registry: OptimizerRegistry, distribution: Install) -> None:
    info = distribution("fake-plugin", factories={"fake": "fake_plugin:Factory"})
    with pytest.raises(FactoryLoadError):
        registry.get("fake")
    distribution("unrelated", modules={"fake_plugin": FACTORY})

    assert registry.get("fake").__module__ == "fake_plugin"
    assert info.exists()


def test_keyboard_interrupt_during_an_import_is_not_swallowed(
    registry: OptimizerRegistry, distribution: Install
) -> None:
    modules = {"fake_plugin": "raise KeyboardInterrupt"}
    distribution("fake-plugin", factories={"fake": "fake_plugin:Factory"}, modules=modules)

    with pytest.raises(KeyboardInterrupt):
        registry.get("fake")


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("Factory = 3", "3 is not a class"),
        ("def Factory(): ...", "is not a class"),
        ("class Factory: ...", "it has no method 'build'"),
        ("class Factory:\n    build = None", "it has no method 'build'"),
    ],
)
def test_installed_object_that_is_no_factory_is_refused(
    registry: OptimizerRegistry, distribution: Install, source: str, what: str
) -> None:
    distribution("fake-plugin", factories={"fake": "fake_plugin:Factory"}, modules={"fake_plugin": source})

    with pytest.raises(InvalidFactoryError, match=what) as caught:
        registry.get("fake")

    assert caught.value.key == "fake"
    assert caught.value.provider == "fake-plugin 1.0 (fake_plugin:Factory)"
    assert isinstance(caught.value, TypeError)


def test_entry_point_that_names_a_whole_module_is_refused(registry: OptimizerRegistry, distribution: Install) -> None:
    distribution("fake-plugin", factories={"fake": "fake_plugin"}, modules={"fake_plugin": FACTORY})

    with pytest.raises(InvalidFactoryError, match=r"<module 'fake_plugin'.* is not a class"):
        registry.get("fake")


@pytest.mark.parametrize("source", [s for s, _ in FAILURES.values() if s is not None])
def test_real_load_errors_survive_pickling(registry: OptimizerRegistry, distribution: Install, source: str) -> None:
    distribution("fake-plugin", factories={"fake": "fake_plugin:Factory"}, modules={"fake_plugin": source})
    with pytest.raises(FactoryLoadError) as caught:
        registry.get("fake")

    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
