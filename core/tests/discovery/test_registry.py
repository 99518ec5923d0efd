"""The registry: which keys there are, who provides them, and what goes wrong with one of them only."""

from __future__ import annotations

import logging
import pickle
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from optim_core.discovery.registry import OPTIMIZER_BUILDER_REGISTRY, OptimizerRegistry
from optim_core.errors import (
    CheckpointError,
    CheckpointMismatchError,
    ConfigurationError,
    DuplicateOptimizerError,
    FactoryLoadError,
    InvalidArgumentsError,
    InvalidFactoryError,
    OptimError,
    Problem,
    StateMismatchError,
    UnknownOptimizerError,
)

pytestmark = pytest.mark.usefixtures("only_fake_distributions")

Install = Callable[..., Path]
FACTORY = "class Factory:\n    def build(self, params): ..."


class Mine:
    def build(self, params: object) -> None: ...


class Other:
    def build(self, params: object) -> None: ...


@pytest.fixture
def registry() -> OptimizerRegistry:
    return OptimizerRegistry()


@pytest.fixture
def two_plugins(distribution: Install) -> None:
    distribution("alpha-plugin", "1.1", factories={"alpha": "alpha_plugin:Factory"}, modules={"alpha_plugin": FACTORY})
    distribution("beta-plugin", "2.2", factories={"beta": "beta_plugin:Factory"}, modules={"beta_plugin": FACTORY})


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


@pytest.fixture
def contested(distribution: Install) -> None:
    modules = {"first_plugin": FACTORY, "second_plugin": FACTORY}
    distribution("first-plugin", "1.0", factories={"same": "first_plugin:Factory", "only": "first_plugin:Factory"})
    distribution("second-plugin", "2.0", factories={"same": "second_plugin:Factory"}, modules=modules)


@pytest.mark.usefixtures("contested")
def test_contested_key_is_listed_and_imports_nothing(registry: OptimizerRegistry) -> None:
    assert list(registry) == ["only", "same"]
    assert [e.distribution for e in registry.entries() if e.key == "same"] == ["first-plugin", "second-plugin"]
    assert {"first_plugin", "second_plugin"}.isdisjoint(sys.modules)


@pytest.mark.usefixtures("contested")
def test_contested_key_raises_with_both_names_when_used(registry: OptimizerRegistry) -> None:
    with pytest.raises(DuplicateOptimizerError) as caught:
        registry.get("same")

    assert caught.value.key == "same"
    assert caught.value.providers == (
        "first-plugin 1.0 (first_plugin:Factory)",
        "second-plugin 2.0 (second_plugin:Factory)",
    )
    assert "first-plugin" in str(caught.value)
    assert "second-plugin" in str(caught.value)
    assert "OPTIM_DISABLE_PLUGINS" in str(caught.value)


@pytest.mark.usefixtures("contested")
def test_contested_key_leaves_the_others_alone(registry: OptimizerRegistry) -> None:
    with pytest.raises(DuplicateOptimizerError):
        registry.get("same")

    assert registry.get("only") is sys.modules["first_plugin"].Factory


@pytest.mark.usefixtures("contested")
def test_disabling_one_claimant_settles_a_contested_key(
    registry: OptimizerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTIM_DISABLE_PLUGINS", "first-plugin")

    assert registry.get("same") is sys.modules["second_plugin"].Factory


def test_one_distribution_with_two_values_for_a_key_is_contested(
    registry: OptimizerRegistry, distribution: Install
) -> None:
    distribution("fake-plugin", entry_points="[optim.factories]\nsame = m:A\nsame = m:B\n")

    with pytest.raises(DuplicateOptimizerError, match=r"\(m:A\) and by fake-plugin 1.0 \(m:B\)"):
        registry.get("same")


def test_same_distribution_seen_twice_is_not_contested(registry: OptimizerRegistry, distribution: Install) -> None:
    distribution("fake-plugin", "1.0", factories={"fake": "old_plugin:Factory"}, folder="site-packages")
    distribution(
        "Fake.Plugin",
        "2.0",
        factories={"fake": "new_plugin:Factory"},
        modules={"new_plugin": FACTORY},
        folder="editable",
    )

    assert registry.get("fake") is sys.modules["new_plugin"].Factory


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


@pytest.mark.parametrize("name", ["Fake", "fäke", "fa ke", "fake!", "fake/two"])
def test_malformed_entry_point_name_is_ignored_and_logged(
    registry: OptimizerRegistry, distribution: Install, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    distribution("fake-plugin", factories={name: "fake_plugin:Factory", "good": "fake_plugin:Factory"})

    with caplog.at_level(logging.WARNING, "optim_core"):
        assert list(registry) == ["good"]

    assert f"fake-plugin 1.0 (fake_plugin:Factory) offers the malformed key {name!r}" in caplog.text


@pytest.mark.parametrize(
    "entry_points",
    ["[optim.factories]\nno entry point\n", b"[x]\n\xff = \xfe\n", "[optim.factories]\nbad = not valid!\n"],
)
def test_broken_metadata_elsewhere_leaves_the_registry_working(
    registry: OptimizerRegistry, distribution: Install, entry_points: str | bytes
) -> None:
    distribution("sound-plugin", factories={"sound": "sound_plugin:Factory"}, modules={"sound_plugin": FACTORY})
    distribution("broken-plugin", entry_points=entry_points)

    assert registry.get("sound") is sys.modules["sound_plugin"].Factory


@pytest.fixture
def unreadable(distribution: Install) -> Path:
    distribution("sound-plugin", factories={"sound": "sound_plugin:Factory"}, modules={"sound_plugin": FACTORY})
    return distribution("unreadable-plugin", factories={"unreadable": "m:F"}, metadata=b"Name: \xff\xfe\n")


@pytest.mark.usefixtures("unreadable")
def test_listing_keys_and_getting_another_reads_no_metadata(
    registry: OptimizerRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    assert list(registry) == ["sound", "unreadable"]
    assert len(registry) == 2
    assert "unreadable" in registry
    assert registry.get("sound") is sys.modules["sound_plugin"].Factory
    assert caplog.records == []


def test_unreadable_distribution_is_left_out_of_the_entries_and_from_then_on(
    registry: OptimizerRegistry, unreadable: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert "unreadable" in registry

    assert [entry.key for entry in registry.entries()] == ["sound"]

    assert list(registry) == ["sound"]
    assert [entry.key for entry in registry.entries(include_disabled=True)] == ["sound"]
    assert [str(unreadable) in record.getMessage() for record in caplog.records] == [True]


def test_key_of_an_unreadable_distribution_is_unknown_and_says_why(
    registry: OptimizerRegistry, unreadable: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with pytest.raises(UnknownOptimizerError, match=r"'unreadable': the metadata .* can't be read") as caught:
            registry.get("unreadable")
    assert caught.value.known == ("sound",)
    with pytest.raises(UnknownOptimizerError, match=r"'unreadable': the metadata .* can't be read"):
        registry.unregister("unreadable")
    assert [str(unreadable) in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.usefixtures("unreadable")
def test_key_of_an_unreadable_distribution_can_be_had_from_another(
    registry: OptimizerRegistry, distribution: Install
) -> None:
    distribution("other", factories={"unreadable": "other_plugin:Factory"}, modules={"other_plugin": FACTORY})

    assert registry.get("unreadable") is sys.modules["other_plugin"].Factory
    assert list(registry) == ["sound", "unreadable"]


def test_unreadable_distribution_that_is_mended_is_back_after_refresh(
    registry: OptimizerRegistry, unreadable: Path
) -> None:
    registry.entries()
    (unreadable / "METADATA").write_text("Name: unreadable-plugin\nVersion: 1.0\n", encoding="utf-8")
    assert "unreadable" not in registry

    registry.refresh()

    assert [entry.key for entry in registry.entries()] == ["sound", "unreadable"]


@pytest.mark.usefixtures("two_plugins")
def test_what_is_disabled_is_settled_with_the_first_question(
    registry: OptimizerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "alpha" in registry
    monkeypatch.setenv("OPTIM_DISABLE_PLUGINS", "alpha-plugin")

    assert [entry.key for entry in registry.entries()] == list(registry) == ["alpha", "beta"]


@pytest.mark.usefixtures("two_plugins")
def test_disabled_distribution_is_neither_listed_nor_imported(
    registry: OptimizerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTIM_DISABLE_PLUGINS", "Alpha_Plugin")

    assert list(registry) == ["beta"]
    assert "alpha" not in registry
    assert [entry.key for entry in registry.entries()] == ["beta"]
    with pytest.raises(UnknownOptimizerError) as caught:
        registry.get("alpha")
    assert caught.value.reason is not None
    assert "alpha-plugin 1.1" in str(caught.value)
    assert "disabled by OPTIM_DISABLE_PLUGINS" in str(caught.value)
    assert "alpha_plugin" not in sys.modules


@pytest.mark.usefixtures("two_plugins")
def test_disabled_entries_are_marked_when_asked_for(
    registry: OptimizerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTIM_DISABLE_PLUGINS", "alpha-plugin")

    entries = registry.entries(include_disabled=True)

    assert [(entry.key, entry.disabled) for entry in entries] == [("alpha", True), ("beta", False)]


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
def test_registered_against_installed_is_contested_when_used(registry: OptimizerRegistry) -> None:
    registry.register("alpha", Mine)

    with pytest.raises(DuplicateOptimizerError, match=r"alpha-plugin 1\.1") as caught:
        registry.get("alpha")

    assert caught.value.providers[1] == f"{Mine.__module__}:Mine (registered in this process)"
    assert "replace=True" in str(caught.value)
    assert len(registry) == 2
    assert registry.get("beta") is sys.modules["beta_plugin"].Factory


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


def test_registries_know_nothing_of_each_other(registry: OptimizerRegistry) -> None:
    registry.register("mine", Mine)

    assert "mine" not in OptimizerRegistry()
    assert "mine" not in OPTIMIZER_BUILDER_REGISTRY


ERRORS: list[Exception] = [
    UnknownOptimizerError("alhpa", ["alpha", "beta"], ["alpha"]),
    UnknownOptimizerError("alpha", reason="disabled"),
    DuplicateOptimizerError("alpha", ["a 1.0", "b 2.0"], "Uninstall one"),
    FactoryLoadError("alpha", "alpha-plugin", "1.0", "a:F", ModuleNotFoundError("No module named 'a'", name="a")),
    InvalidFactoryError("alpha", "alpha-plugin", "it has no method 'build'"),
    InvalidArgumentsError("Factory", [Problem("lr", "= 0: must be more", "Raise it", 3), Problem("", "no")]),
    ConfigurationError("config.yaml", [Problem("a.b", "no such key", cause=OSError(2, "gone"))]),
    StateMismatchError("the state is of others"),
    CheckpointError(Path("somewhere"), "is damaged"),
    CheckpointMismatchError(Path("somewhere"), [Problem("a", "differs"), Problem("b", "differs")]),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_survive_pickling(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is type(error)
    assert isinstance(copy, OptimError)
    assert str(copy) == str(error)
    # Exceptions compare by identity: those among the attributes are compared by what they show.
    assert {k: repr(v) for k, v in vars(copy).items()} == {k: repr(v) for k, v in vars(error).items()}


@pytest.mark.parametrize("source", [s for s, _ in FAILURES.values() if s is not None])
def test_real_load_errors_survive_pickling(registry: OptimizerRegistry, distribution: Install, source: str) -> None:
    distribution("fake-plugin", factories={"fake": "fake_plugin:Factory"}, modules={"fake_plugin": source})
    with pytest.raises(FactoryLoadError) as caught:
        registry.get("fake")

    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


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
