"""Building: which modules are components, and every problem of a configuration at once."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from optim_core.arguments.number_types import PeakLearningRate
from optim_core.building.build_optimizers import build_optimizers
from optim_core.component_optimizers.component_optimizers import ComponentOptimizers
from optim_core.discovery.registry import OPTIMIZER_BUILDER_REGISTRY, OptimizerRegistry
from optim_core.errors import (
    ConfigurationError,
    FactoryLoadError,
    InvalidArgumentsError,
    OptimWarning,
    Problem,
    UncoveredParametersWarning,
    UnknownOptimizerError,
)

SGD_SPEC = {"type": "sgd", "params": {"lr": 0.1}}


class SGD:
    """Stochastic gradient descent; remembers what it was given."""

    built: list[list[torch.Tensor]]

    def __init__(self, lr: PeakLearningRate, momentum: float = 0.0) -> None:
        self.lr, self.momentum = lr, momentum

    def build(self, params: Any) -> torch.optim.Optimizer:
        params = list(params)
        self.built.append(params)
        return torch.optim.SGD(params, lr=self.lr, momentum=self.momentum)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[list[torch.Tensor]]:
    """What `SGD.build` was called with, call by call."""
    calls: list[list[torch.Tensor]] = []
    monkeypatch.setattr(SGD, "built", calls, raising=False)
    return calls


@pytest.fixture
def registry(built: list[list[torch.Tensor]]) -> OptimizerRegistry:
    registry = OptimizerRegistry()
    registry.register("sgd", SGD)
    return registry


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x))  # type: ignore[no-any-return]


def ids(params: Any) -> list[int]:
    return [id(p) for p in params]


def owned(optimizers: ComponentOptimizers, component: str) -> list[int]:
    return [id(p) for group in optimizers[component].param_groups for p in group["params"]]


def problems_of(*args: Any, **kwargs: Any) -> tuple[Problem, ...]:
    with pytest.raises(ConfigurationError) as caught:
        build_optimizers(*args, **kwargs)
    return caught.value.problems


BOTH = {"backbone": SGD_SPEC, "head": SGD_SPEC}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda net: net,
        lambda net: {"backbone": net.backbone, "head": net.head},
        lambda net: nn.ModuleDict({"backbone": net.backbone, "head": net.head}),
        lambda net: nn.DataParallel(net),
        lambda net: {"backbone": nn.DataParallel(net.backbone), "head": net.head},
        lambda net: nn.DataParallel(nn.ModuleDict({"backbone": net.backbone, "head": net.head})),
        # torch.compile uses what PyTorch itself has deprecated.
        pytest.param(torch.compile, marks=pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")),
    ],
    ids=["module", "dict", "ModuleDict", "DataParallel", "dict of DataParallel", "DataParallel ModuleDict", "compiled"],
)
def test_each_component_has_an_optimizer_of_its_own_parameters(
    registry: OptimizerRegistry, wrap: Callable[[Net], Any]
) -> None:
    net = Net()

    optimizers = build_optimizers(wrap(net), BOTH, registry=registry)

    assert list(optimizers) == ["backbone", "head"]
    assert owned(optimizers, "backbone") == ids(net.backbone.parameters())
    assert owned(optimizers, "head") == ids(net.head.parameters())
    assert optimizers["head"].param_groups[0]["lr"] == 0.1
    assert list(optimizers.parameters_of("head")) == ["weight", "bias"]


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_distributed_data_parallel_is_looked_through(registry: OptimizerRegistry) -> None:
    whole, backbone, head = Net(), nn.Linear(2, 2), nn.Linear(2, 1)
    parallel = nn.parallel.DistributedDataParallel

    of_module = build_optimizers(parallel(whole), {"backbone.0": SGD_SPEC}, registry=registry, uncovered="ignore")
    of_mapping = build_optimizers({"backbone": parallel(backbone), "head": head}, BOTH, registry=registry)

    assert owned(of_module, "backbone.0") == ids(whole.backbone[0].parameters())
    assert list(of_module.parameters_of("backbone.0")) == ["weight", "bias"]
    assert owned(of_mapping, "backbone") == ids(backbone.parameters())
    assert list(of_mapping.parameters_of("backbone")) == ["weight", "bias"]


def test_components_of_one_module_are_dotted_paths(registry: OptimizerRegistry) -> None:
    net = Net()

    optimizers = build_optimizers(
        net, {"backbone.1": SGD_SPEC, "backbone.0": SGD_SPEC, "head": SGD_SPEC}, registry=registry
    )

    assert list(optimizers) == ["backbone.1", "backbone.0", "head"]
    assert owned(optimizers, "backbone.1") == ids(net.backbone[1].parameters())


def test_dotted_paths_lead_into_the_modules_of_a_mapping(registry: OptimizerRegistry) -> None:
    net = Net()

    optimizers = build_optimizers(
        {"student": net},
        {"student.head": SGD_SPEC, "student.backbone.1": SGD_SPEC},
        registry=registry,
        uncovered="ignore",
    )

    assert owned(optimizers, "student.head") == ids(net.head.parameters())
    assert owned(optimizers, "student.backbone.1") == ids(net.backbone[1].parameters())


def test_a_mapping_may_have_dots_in_its_names(registry: OptimizerRegistry) -> None:
    net, other = Net(), nn.Linear(1, 1)

    optimizers = build_optimizers(
        {"a": net, "a.head": other}, {"a.head": SGD_SPEC}, registry=registry, uncovered="ignore"
    )

    assert owned(optimizers, "a.head") == ids(other.parameters())


def test_a_module_that_has_two_names_can_be_named_by_either(registry: OptimizerRegistry) -> None:
    net = nn.Module()
    net.encoder = net.alias = nn.Linear(2, 1)

    optimizers = build_optimizers(net, {"alias": SGD_SPEC}, registry=registry)

    assert owned(optimizers, "alias") == ids(net.encoder.parameters())


def test_a_whole_configuration_in_a_file_is_built(registry: OptimizerRegistry, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("model: {component_optims: {backbone: {type: sgd, params: {lr: 1e-3}}}}", encoding="utf-8")

    optimizers = build_optimizers({"backbone": nn.Linear(1, 1)}, path, registry=registry)

    assert optimizers["backbone"].param_groups[0]["lr"] == 1e-3
    assert optimizers.specs["backbone"].path == "model.component_optims.backbone"
    assert optimizers.params["backbone"] == {"lr": 1e-3, "momentum": 0.0}


def test_the_process_wide_registry_is_the_default(built: list[list[torch.Tensor]]) -> None:
    OPTIMIZER_BUILDER_REGISTRY.register("only_in_this_test", SGD)

    build_optimizers({"net": nn.Linear(1, 1)}, {"net": {"type": "only_in_this_test", "params": {"lr": 1}}})

    assert len(built) == 1


def test_the_configuration_is_not_changed(registry: OptimizerRegistry) -> None:
    source = {"net": {"type": "sgd", "params": {"lr": "1e-1"}}}

    build_optimizers({"net": nn.Linear(1, 1)}, source, registry=registry)

    assert source == {"net": {"type": "sgd", "params": {"lr": "1e-1"}}}


@pytest.mark.parametrize("module", [nn.Linear(2, 1).requires_grad_(False), nn.ReLU()], ids=["frozen", "parameterless"])
def test_a_component_with_nothing_to_train_is_skipped_and_logged(
    registry: OptimizerRegistry, built: list[list[torch.Tensor]], caplog: pytest.LogCaptureFixture, module: nn.Module
) -> None:
    with caplog.at_level(logging.INFO, "optim_core"):
        optimizers = build_optimizers({"backbone": module, "head": nn.Linear(1, 1)}, BOTH, registry=registry)

    assert list(optimizers) == ["head"]
    assert optimizers.skipped == ("backbone",)
    assert len(built) == 1
    assert "component 'backbone' is skipped: it has no trainable parameter" in caplog.text
    assert "'head'" not in caplog.text


def test_a_skipped_component_is_checked_like_the_others(registry: OptimizerRegistry) -> None:
    frozen = nn.Linear(1, 1).requires_grad_(False)

    (problem,) = problems_of({"net": frozen}, {"net": {"type": "sgd"}}, registry=registry)

    assert problem.path == "net.params.lr"


def test_a_component_frozen_in_part_is_built(registry: OptimizerRegistry) -> None:
    net = Net()
    net.backbone[0].requires_grad_(False)

    optimizers = build_optimizers(net, BOTH, registry=registry)

    assert owned(optimizers, "backbone") == ids(net.backbone.parameters())
    assert optimizers.skipped == ()


def test_shared_parameters_are_refused_with_both_names(
    registry: OptimizerRegistry, built: list[list[torch.Tensor]]
) -> None:
    encoder, decoder = nn.Linear(2, 2), nn.Linear(2, 2)
    decoder.weight = encoder.weight

    (problem,) = problems_of(
        {"encoder": encoder, "decoder": decoder}, {"encoder": SGD_SPEC, "decoder": SGD_SPEC}, registry=registry
    )

    assert problem.path == "decoder"
    assert problem.message == "shares parameters with component 'encoder': 'weight' (there 'weight')"
    assert problem.hint is not None
    assert built == []


def test_many_shared_parameters_are_listed_in_part(registry: OptimizerRegistry) -> None:
    net = nn.Sequential(*[nn.Linear(1, 1) for _ in range(4)])

    (problem,) = problems_of({"one": net, "two": net}, {"one": SGD_SPEC, "two": SGD_SPEC}, registry=registry)

    assert "'0.weight' (there '0.weight')" in problem.message
    assert problem.message.endswith(" and 5 more")


def test_overlapping_dotted_components_are_refused_with_both_names(registry: OptimizerRegistry) -> None:
    (problem,) = problems_of(Net(), {**BOTH, "backbone.1": SGD_SPEC}, registry=registry)

    assert problem.path == "backbone.1"
    assert problem.message == "is a part of component 'backbone'"


def test_a_frozen_component_may_share_its_parameters(registry: OptimizerRegistry) -> None:
    net = nn.Linear(1, 1).requires_grad_(False)

    optimizers = build_optimizers({"one": net, "two": net}, {"one": SGD_SPEC, "two": SGD_SPEC}, registry=registry)

    assert optimizers.skipped == ("one", "two")


def test_a_parameter_used_twice_within_a_component_is_no_problem(registry: OptimizerRegistry) -> None:
    net = Net()
    net.backbone[1].weight = nn.Parameter(torch.zeros(4, 4))
    net.backbone.append(nn.Linear(4, 4))
    net.backbone[2].weight = net.backbone[1].weight

    optimizers = build_optimizers(net, BOTH, registry=registry)

    assert owned(optimizers, "backbone") == ids(net.backbone.parameters())


@pytest.mark.parametrize(
    ("models", "name", "hint"),
    [
        (Net(), "bakbone", "Did you mean 'backbone'?"),
        (Net(), "backbone.2", "Did you mean 'backbone.0' or 'backbone.1' or 'backbone'?"),
        (Net(), "xyzzy", "Known: backbone, head"),
        (Net(), "head.weight", None),
        ({"net": Net()}, "net.haed", "Did you mean 'net.head'?"),
        ({"net": Net()}, "head", "Did you mean 'net.head'?"),
        ({}, "net", "There are no components to name"),
        (nn.Linear(1, 1), "net", "There are no components to name"),
    ],
)
def test_an_unknown_component_names_near_ones(
    registry: OptimizerRegistry, models: Any, name: str, hint: str | None
) -> None:
    (problem,) = problems_of(models, {name: SGD_SPEC}, registry=registry, uncovered="ignore")

    assert (problem.path, problem.message) == (name, "no such component")
    assert hint is None or problem.hint == hint


def test_a_component_that_is_no_module_is_refused(registry: OptimizerRegistry) -> None:
    with pytest.raises(TypeError, match=r"models\['net'\] must be a torch\.nn\.Module, not Tensor"):
        build_optimizers({"net": torch.ones(1)}, {"net": SGD_SPEC}, registry=registry)  # type: ignore[dict-item]


@pytest.mark.parametrize("models", [[nn.Linear(1, 1)], None, "net"])
def test_models_of_the_wrong_kind_are_a_type_error(registry: OptimizerRegistry, models: Any) -> None:
    with pytest.raises(TypeError, match=r"models must be a torch\.nn\.Module or a mapping"):
        build_optimizers(models, {"net": SGD_SPEC}, registry=registry)


def test_problems_of_every_kind_are_reported_at_once_and_nothing_is_built(
    registry: OptimizerRegistry, built: list[list[torch.Tensor]], tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        """\
model:
  component_optims:
    good: {type: sgd, params: {lr: 1}}
    unknown_type: {type: sdg, params: {lr: 1}}
    unknown_component: {type: sgd, params: {lr: 1}}
    arguments:
      type: sgd
      params:
        lr: -1
        momentun: 0.9
    malformed: [sgd]
    shared: {type: sgd, params: {lr: 1}, parms: {}}
""",
        encoding="utf-8",
    )
    good = nn.Linear(1, 1)
    names = ("unknown_type", "arguments", "malformed")
    models = {"good": good, "shared": good, **{name: nn.Linear(1, 1) for name in names}}

    with pytest.raises(ConfigurationError) as caught:
        build_optimizers(models, path, registry=registry)

    error = caught.value
    assert error.subject == str(path)
    assert [(problem.path.removeprefix("model.component_optims."), problem.line) for problem in error.problems] == [
        ("unknown_type.type", 4),
        ("unknown_component", 5),
        ("arguments.params.lr", 9),
        ("arguments.params.momentun", 10),
        ("malformed", 11),
        ("shared.parms", 12),
        ("shared", 12),
    ]
    assert str(error).startswith(
        f"{path}: 7 problems\n  - line 4: model.component_optims.unknown_type.type: no optimizer"
    )
    assert isinstance(error.__cause__, UnknownOptimizerError)
    assert built == []


def test_a_factory_that_cannot_be_imported_is_a_problem_with_its_cause(distribution: Callable[..., Path]) -> None:
    distribution("failing-plugin", factories={"failing": "no_such_module_at_all:Factory"})

    with pytest.raises(ConfigurationError, match=r"failing-plugin 1\.0") as caught:
        build_optimizers({"net": nn.Linear(1, 1)}, {"net": {"type": "failing"}}, registry=OptimizerRegistry())

    assert caught.value.problems[0].path == "net.type"
    assert isinstance(caught.value.__cause__, FactoryLoadError)


def test_an_installed_factory_builds(distribution: Callable[..., Path]) -> None:
    source = """
    import torch
    class Factory:
        def __init__(self, lr: float): self.lr = lr
        def build(self, params): return torch.optim.Adagrad(params, lr=self.lr)
    """
    distribution("fake-plugin", factories={"fake": "fake_plugin:Factory"}, modules={"fake_plugin": source})

    optimizers = build_optimizers(
        {"net": nn.Linear(1, 1)}, {"net": {"type": "fake", "params": {"lr": "1e-4"}}}, registry=OptimizerRegistry()
    )

    assert type(optimizers["net"]) is torch.optim.Adagrad
    assert optimizers["net"].param_groups[0]["lr"] == 1e-4


def test_uncovered_parameters_are_warned_about_and_counted(registry: OptimizerRegistry) -> None:
    net = Net()
    net.backbone[1].bias.requires_grad_(False)
    # Trainable in the backbone: 3 * 4 + 4 in the first layer, 4 * 4 in the second.
    expected = r"^32 trainable parameters have no optimizer and will not be trained: backbone \(32 parameters\)\. "

    with pytest.warns(UncoveredParametersWarning, match=expected) as caught:
        optimizers = build_optimizers(net, {"head": SGD_SPEC}, registry=registry)

    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert issubclass(UncoveredParametersWarning, OptimWarning)
    assert list(optimizers) == ["head"]


def test_uncovered_parts_are_counted_one_by_one_and_shared_ones_once(registry: OptimizerRegistry) -> None:
    one, two = nn.Linear(10, 100, bias=False), nn.Linear(10, 100)
    two.weight = one.weight

    with pytest.warns(UncoveredParametersWarning, match=r"^1,100 .*: one \(1,000 parameters\), two \(100 parameters\)"):
        build_optimizers({"one": one, "two": two, "head": nn.Linear(1, 1)}, {"head": SGD_SPEC}, registry=registry)


def test_uncovered_parameters_are_a_problem_on_request(
    registry: OptimizerRegistry, built: list[list[torch.Tensor]]
) -> None:
    (problem,) = problems_of(Net(), {"head": SGD_SPEC}, registry=registry, uncovered="error")

    assert problem.message.startswith("36 trainable parameters have no optimizer")
    assert built == []


def test_uncovered_parameters_can_be_ignored(registry: OptimizerRegistry) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizers = build_optimizers(Net(), {"head": SGD_SPEC}, registry=registry, uncovered="ignore")

    assert list(optimizers) == ["head"]


def test_a_misspelt_component_is_not_reported_as_uncovered_too(registry: OptimizerRegistry) -> None:
    (problem,) = problems_of(Net(), {"bakbone": SGD_SPEC, "head": SGD_SPEC}, registry=registry, uncovered="error")

    assert problem.message == "no such component"


def test_a_malformed_component_is_not_reported_as_uncovered_too(registry: OptimizerRegistry) -> None:
    (problem,) = problems_of(Net(), {"backbone": [], "head": SGD_SPEC}, registry=registry, uncovered="error")

    assert problem.path == "backbone"


@pytest.mark.parametrize("uncovered", ["Warn", "", None, True])
def test_another_policy_for_uncovered_parameters_is_refused(registry: OptimizerRegistry, uncovered: Any) -> None:
    with pytest.raises(ValueError, match="must be 'warn', 'error' or 'ignore'"):
        build_optimizers(Net(), BOTH, registry=registry, uncovered=uncovered)


def builds(registry: OptimizerRegistry, result: Callable[[Any], Any]) -> None:
    """Register a factory `odd` whose `build` is the function."""

    class Odd:
        def build(self, params: Any) -> Any:
            return result(params)

    registry.register("odd", Odd)


@pytest.mark.parametrize("result", [None, 3, "optimizer", torch.optim.SGD])
def test_a_factory_that_builds_something_else_is_a_problem(registry: OptimizerRegistry, result: object) -> None:
    builds(registry, lambda params: result)

    (problem,) = problems_of({"net": nn.Linear(1, 1)}, {"net": {"type": "odd"}}, registry=registry)

    assert problem.path == "net.type"
    assert problem.message == f"'odd' built a {type(result).__name__}, not a torch.optim.Optimizer"


def raising(error: Exception) -> Callable[[Any], Any]:
    def build(params: Any) -> Any:
        raise error

    return build


@pytest.mark.parametrize("error", [ValueError("no sparse gradients"), TypeError("no sparse gradients")])
def test_what_an_optimizer_refuses_is_a_problem_with_its_path(registry: OptimizerRegistry, error: Exception) -> None:
    builds(registry, raising(error))
    models = {"net": nn.Linear(1, 1), "head": nn.Linear(1, 1)}

    with pytest.raises(ConfigurationError) as caught:
        build_optimizers(models, {"net": {"type": "odd"}, "head": {"type": "odd"}}, registry=registry)

    assert [str(problem) for problem in caught.value.problems] == [
        "net.params: the optimizer can't be built: no sparse gradients",
        "head.params: the optimizer can't be built: no sparse gradients",
    ]
    assert caught.value.__cause__ is error


def test_arguments_that_an_optimizer_refuses_have_their_paths(registry: OptimizerRegistry) -> None:
    builds(registry, raising(InvalidArgumentsError("Odd", [Problem("lr", "too high"), Problem("decay", "too low")])))

    problems = problems_of({"net": nn.Linear(1, 1)}, {"net": {"type": "odd"}}, registry=registry)

    assert [str(problem) for problem in problems] == ["net.params.lr: too high", "net.params.decay: too low"]


def test_any_other_error_of_a_factory_is_its_own_with_a_note(registry: OptimizerRegistry) -> None:
    error = RuntimeError("no GPU")
    builds(registry, raising(error))

    with pytest.raises(RuntimeError) as caught:
        build_optimizers({"net": nn.Linear(1, 1)}, {"net": {"type": "odd"}}, registry=registry)

    assert caught.value is error
    assert caught.value.__notes__ == ["raised while building the optimizer of component 'net' (odd)"]


def test_components_that_are_not_named_by_strings_are_refused() -> None:
    with pytest.raises(TypeError, match="strings as component names, not 0"):
        build_optimizers({0: nn.Linear(2, 2)}, {"net": {"type": "adam"}})  # type: ignore[dict-item]


@pytest.mark.parametrize("name", ["0.", "..0", ".0", "0..weight"])
def test_names_with_empty_parts_are_no_components(name: str) -> None:
    registry = OptimizerRegistry()
    registry.register("sgd", SGD)
    with pytest.raises(ConfigurationError, match="no such component"):
        build_optimizers(nn.Sequential(nn.Linear(2, 2)), {name: {"type": "sgd"}}, registry=registry)


def test_hints_do_not_name_what_a_wrapper_hides() -> None:
    registry = OptimizerRegistry()
    registry.register("sgd", SGD)
    models = {"enc": nn.DataParallel(nn.Sequential(nn.Linear(2, 2)))}
    with pytest.raises(ConfigurationError) as caught:
        build_optimizers(models, {"enc.1": {"type": "sgd"}}, registry=registry)
    assert "'enc.0'" in str(caught.value)
    assert "module" not in str(caught.value)
