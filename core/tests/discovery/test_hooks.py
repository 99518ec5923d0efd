"""Hooks: their specifications, the core's defaults, and what a stranger's broken hooks cost."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import Any

import pluggy
import pytest
import torch
from torch import nn

from core_support.distributions import Install
from optim_core.building.build_optimizers import build_optimizers
from optim_core.component_optimizers.component_optimizers import ComponentOptimizers
from optim_core.discovery import hooks
from optim_core.discovery.hooks import hook_manager, hookimpl
from optim_core.discovery.registry import OptimizerRegistry
from optim_core.errors import ConfigurationError, HookLoadWarning, UncoveredParametersWarning

OPTIM = "from optim_core import hookimpl\n"
# A parameter group with an option that a test can find again.
MARKING = (
    OPTIM
    + """
@hookimpl
def optim_param_groups(component, module):
    return [{"params": list(module.parameters()), "chosen_by": __name__}]
"""
)


class SGD:
    def __init__(self, lr: float = 0.1) -> None:
        self.lr = lr

    def build(self, params: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr=self.lr)


def build(module: nn.Module | None = None) -> ComponentOptimizers:
    registry = OptimizerRegistry()
    registry.register("test_sgd", SGD)
    return build_optimizers({"net": module or nn.Linear(2, 1)}, {"net": {"type": "test_sgd"}}, registry=registry)


def chosen_by() -> Any:
    return build()["net"].param_groups[0].get("chosen_by")


def test_specifications_are_the_two_hooks() -> None:
    specified = {name: caller.spec for name, caller in vars(hook_manager().hook).items() if caller.has_spec()}

    assert set(specified) == {"optim_param_groups", "optim_build"}
    assert all(spec is not None and spec.opts["firstresult"] for spec in specified.values())


@pytest.mark.parametrize(
    ("hook", "arguments"),
    [
        (hooks.optim_param_groups, ["component", "module", "spec", "policy", "argument"]),
        (hooks.optim_build, ["component", "factory", "params", "spec"]),
    ],
)
def test_a_specification_has_the_documented_arguments(hook: Callable[..., Any], arguments: list[str]) -> None:
    assert list(inspect.signature(hook).parameters) == arguments


def test_default_is_every_parameter_of_the_module_in_one_group() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))

    (group,) = build(module)["net"].param_groups

    assert [id(p) for p in group["params"]] == [id(p) for p in module.parameters()]


def test_an_implementation_comes_before_the_default_and_gets_every_argument() -> None:
    seen: dict[str, Any] = {}

    class Hooks:
        @hookimpl
        def optim_param_groups(self, component: Any, module: Any, spec: Any) -> Any:
            seen.update(component=component, module=module, spec=spec)
            return [{"params": [module.bias]}, {"params": [module.weight]}]

    hook_manager().register(Hooks())
    module = nn.Linear(2, 1)

    optimizers = build(module)

    assert [group["params"] for group in optimizers["net"].param_groups] == [[module.bias], [module.weight]]
    assert (seen["component"], seen["module"]) == ("net", module)
    assert (seen["spec"].type, seen["spec"].component) == ("test_sgd", "net")


def test_none_leaves_the_choice_to_the_next() -> None:
    class Hooks:
        @hookimpl
        def optim_param_groups(self) -> None: ...

        @hookimpl
        def optim_build(self) -> None: ...

    hook_manager().register(Hooks())

    assert isinstance(build()["net"], torch.optim.SGD)


def test_first_result_wins() -> None:
    def choosing(name: str) -> object:
        return SimpleNamespace(
            optim_param_groups=hookimpl(lambda module: [{"params": list(module.parameters()), "chosen_by": name}])
        )

    hook_manager().register(choosing("earlier"))
    hook_manager().register(choosing("later"))  # pluggy asks the last registered first

    assert chosen_by() == "later"


def test_optim_build_may_build_something_else() -> None:
    class Hooks:
        @hookimpl
        def optim_build(self, factory: SGD, params: Any) -> torch.optim.Optimizer:
            return torch.optim.Adam(params, lr=factory.lr * 2)

    hook_manager().register(Hooks())

    optimizer = build()["net"]

    assert type(optimizer) is torch.optim.Adam
    assert optimizer.param_groups[0]["lr"] == 0.2


def test_a_wrapper_runs_around_the_build_and_may_replace_its_result() -> None:
    class Lookahead(torch.optim.Optimizer):
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            super().__init__(inner.param_groups, inner.defaults)
            self.inner = inner

    class Hooks:
        @hookimpl(wrapper=True)
        def optim_build(self, component: str) -> Generator[None, torch.optim.Optimizer, torch.optim.Optimizer]:
            inner = yield
            assert component == "net"
            return Lookahead(inner)

    hook_manager().register(Hooks())

    optimizer = build()["net"]

    assert isinstance(optimizer, Lookahead)
    assert type(optimizer.inner) is torch.optim.SGD


def test_unregistered_hooks_are_asked_no_more(distribution: Install) -> None:
    distribution("hooked", hooks={"mark": "hooks_mark"}, modules={"hooks_mark": MARKING})
    assert chosen_by() == "hooks_mark"

    hook_manager().unregister(name="hooked:mark")

    assert chosen_by() is None


def test_a_module_of_a_distribution_takes_part(distribution: Install) -> None:
    distribution("hooked", hooks={"mark": "hooks_mark"}, modules={"hooks_mark": MARKING})

    assert chosen_by() == "hooks_mark"


def test_an_object_of_a_distribution_takes_part(distribution: Install) -> None:
    source = (
        OPTIM
        + """
class Hooks:
    @hookimpl
    def optim_param_groups(self, module):
        return [{"params": list(module.parameters()), "chosen_by": "an object"}]
hooks = Hooks()
"""
    )
    distribution("hooked", hooks={"mark": "hooks_object:hooks"}, modules={"hooks_object": source})

    assert chosen_by() == "an object"


def test_hooks_are_loaded_at_the_first_build_and_not_before(distribution: Install) -> None:
    distribution("hooked", hooks={"mark": "hooks_mark"}, modules={"hooks_mark": MARKING})
    registry = OptimizerRegistry()
    registry.register("test_sgd", SGD)
    registry.get("test_sgd")
    list(registry)
    assert "hooks_mark" not in sys.modules

    build()

    assert "hooks_mark" in sys.modules


def test_hooks_are_loaded_once(distribution: Install) -> None:
    distribution("hooked", hooks={"mark": "hooks_mark"}, modules={"hooks_mark": MARKING})
    build()
    del sys.modules["hooks_mark"]

    build()

    assert "hooks_mark" not in sys.modules
    assert hook_manager() is hook_manager()


def test_importing_the_hooks_module_loads_no_hooks(distribution: Install) -> None:
    distribution("hooked", hooks={"mark": "hooks_mark"}, modules={"hooks_mark": MARKING})
    import optim_core

    assert optim_core.hook_manager is hook_manager
    assert "hooks_mark" not in sys.modules


def test_disabled_distribution_is_not_imported(distribution: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIM_DISABLE_PLUGINS", "Hooked")
    distribution("hooked", hooks={"mark": "hooks_mark"}, modules={"hooks_mark": MARKING})

    assert chosen_by() is None
    assert "hooks_mark" not in sys.modules


UNUSABLE = {
    "fails to import": ("import no_such_module_at_all", "ModuleNotFoundError"),
    "syntax error": ("def (:", "SyntaxError"),
    "exits": ("raise SystemExit(3)", "SystemExit"),
    "unknown hook": (OPTIM + "@hookimpl\ndef optim_bild(factory): ...", "optim_bild"),
    "wrong argument": (OPTIM + "@hookimpl\ndef optim_build(optimizer): ...", "optimizer"),
    "one of two wrong": (MARKING + "@hookimpl\ndef optim_build(optimizer): ...", "optimizer"),
    "not marked": ("def optim_build(factory, params): raise AssertionError", "marked with optim_core.hookimpl"),
    "empty": ("", "marked with optim_core.hookimpl"),
}


@pytest.mark.parametrize(("source", "what"), UNUSABLE.values(), ids=UNUSABLE)
@pytest.mark.parametrize("key", ["a_key", "z_key"], ids=["loaded first", "loaded last"])
def test_unusable_hooks_are_left_out_with_a_warning_that_names_them(
    distribution: Install, source: str, what: str, key: str
) -> None:
    distribution("broken-hooks", "0.4", hooks={key: "hooks_broken"}, modules={"hooks_broken": source})
    distribution("sound-hooks", hooks={"mark": "hooks_mark"}, modules={"hooks_mark": MARKING})

    with pytest.warns(HookLoadWarning) as caught:
        assert chosen_by() == "hooks_mark"

    (warning,) = caught
    for part in (repr(key), "broken-hooks 0.4 (hooks_broken)", what, "OPTIM_DISABLE_PLUGINS"):
        assert part in str(warning.message)


def test_missing_object_in_a_hooks_module_is_warned_about(distribution: Install) -> None:
    distribution("broken-hooks", hooks={"mark": "hooks_mark:nonsense"}, modules={"hooks_mark": MARKING})

    with pytest.warns(HookLoadWarning, match="AttributeError"):
        assert chosen_by() is None


def test_unusable_hooks_are_warned_about_once(distribution: Install) -> None:
    distribution("broken-hooks", hooks={"mark": "hooks_broken"}, modules={"hooks_broken": "1 / 0"})
    with pytest.warns(HookLoadWarning, match="ZeroDivisionError"):
        build()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build()


def test_rejected_hooks_leave_nothing_behind(distribution: Install) -> None:
    distribution(
        "broken-hooks", hooks={"mark": "hooks_broken"}, modules={"hooks_broken": UNUSABLE["one of two wrong"][0]}
    )

    with pytest.warns(HookLoadWarning):
        assert chosen_by() is None

    assert not hook_manager().has_plugin("broken-hooks:mark")


def test_two_distributions_may_offer_the_same_module(distribution: Install) -> None:
    distribution("hooked-one", hooks={"mark": "hooks_mark"}, modules={"hooks_mark": MARKING})
    distribution("hooked-two", hooks={"mark": "hooks_mark"})

    with pytest.warns(HookLoadWarning, match="hooked-two"):
        assert chosen_by() == "hooks_mark"


def test_same_hook_name_twice_in_one_distribution_costs_the_second_only(distribution: Install) -> None:
    distribution(
        "hooked",
        entry_points="[optim.hooks]\nmark = hooks_mark\nmark = hooks_more\n",
        modules={"hooks_mark": MARKING, "hooks_more": MARKING},
    )

    with pytest.warns(HookLoadWarning, match="hooks_more"):
        assert chosen_by() == "hooks_mark"


def test_a_hook_that_leaves_parameters_out_is_noticed() -> None:
    class Hooks:
        @hookimpl
        def optim_param_groups(self, module: Any) -> Any:
            return [module.weight]

    hook_manager().register(Hooks())
    with pytest.warns(UncoveredParametersWarning, match=r"net\.bias \(1 parameters\)"):
        build(nn.Linear(2, 1))


def test_a_hook_that_gives_away_another_components_parameters_is_refused() -> None:
    first, second = nn.Linear(2, 1), nn.Linear(2, 1)

    class Hooks:
        @hookimpl
        def optim_param_groups(self) -> Any:
            return list(first.parameters())

    hook_manager().register(Hooks())
    configuration = {name: {"type": "test_sgd"} for name in ("first", "second")}
    registry = OptimizerRegistry()
    registry.register("test_sgd", SGD)
    with pytest.raises(ConfigurationError, match=r"second: was given parameters that component 'first' has"):
        build_optimizers({"first": first, "second": second}, configuration, registry=registry)


def test_a_misspelt_hook_registered_in_process_is_an_error_at_the_next_build() -> None:
    class Hooks:
        @hookimpl
        def optim_param_group(self) -> None: ...

    hook_manager().register(Hooks())
    with pytest.raises(pluggy.PluginValidationError, match="optim_param_group"):
        build()


def test_hooks_may_register_others_while_they_are_loaded(distribution: Install) -> None:
    source = """
from optim_core import hook_manager, hookimpl

class Inner:
    @hookimpl
    def optim_param_groups(self, module):
        return [{"params": list(module.parameters()), "chosen_by": "inner"}]

hook_manager().register(Inner())

@hookimpl
def optim_build():
    return None
"""
    distribution("optim-nested", modules={"optim_nested": source}, hooks={"nested": "optim_nested"})
    assert chosen_by() == "inner"
