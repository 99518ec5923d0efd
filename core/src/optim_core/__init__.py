"""The core of optim: a registry of optimizer factories, and optimizers that step their own schedule.

Names are imported when they are first used: `import optim_core`, and listing the registry's keys,
import neither torch nor any plugin.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from optim_core.arguments.number_types import (
        Beta,
        Finite,
        LearningRate,
        NonNegative,
        PeakLearningRate,
        PeakLearningRateOrTensor,
        StepCount,
        Steps,
    )
    from optim_core.arguments.validation import Note, Rule, check_arguments, validate_fields
    from optim_core.building.build_optimizers import UncoveredParametersWarning, build_optimizers
    from optim_core.checkpoints.save_and_load import ResumeWarning, load_checkpoint, save_checkpoint
    from optim_core.component_optimizers.component_optimizers import ComponentOptimizers
    from optim_core.configuration.group_rules import GroupRule, PolicyUse
    from optim_core.configuration.reading import ComponentSpec
    from optim_core.discovery.entries import FactoryEntry
    from optim_core.discovery.hooks import HookLoadWarning, hook_manager, hookimpl
    from optim_core.discovery.registry import OPTIMIZER_BUILDER_REGISTRY, OptimizerRegistry
    from optim_core.errors import (
        CaptureError,
        CheckpointError,
        CheckpointMismatchError,
        ConfigurationError,
        DuplicateOptimizerError,
        EvaluationModeError,
        FactoryLoadError,
        InvalidArgumentsError,
        InvalidFactoryError,
        OptimError,
        OptimWarning,
        Problem,
        StateMismatchError,
        UnknownOptimizerError,
    )
    from optim_core.factories.claims import Claims
    from optim_core.factories.factory import OptimizerFactory
    from optim_core.optimizer.evaluation_weights import evaluation_weights
    from optim_core.optimizer.schedule_state import OnMismatch
    from optim_core.optimizer.scheduled_adamw import ScheduledAdamW
    from optim_core.optimizer.scheduled_optimizer import ScheduledOptimizer, ScheduleWarning
    from optim_core.parameter_groups.assignment import GroupAssignment
    from optim_core.schedules.schedule import Schedule, WarmupCosine

__version__ = "0.1.0"

_MODULES = {
    "arguments.validation": ("Note", "Rule", "check_arguments", "validate_fields"),
    "building.build_optimizers": ("UncoveredParametersWarning", "build_optimizers"),
    "checkpoints.save_and_load": ("ResumeWarning", "load_checkpoint", "save_checkpoint"),
    "factories.claims": ("Claims",),
    "component_optimizers.component_optimizers": ("ComponentOptimizers",),
    "configuration.reading": ("ComponentSpec",),
    "discovery.entries": ("FactoryEntry",),
    "errors": (
        "CaptureError",
        "CheckpointError",
        "CheckpointMismatchError",
        "ConfigurationError",
        "DuplicateOptimizerError",
        "EvaluationModeError",
        "FactoryLoadError",
        "InvalidArgumentsError",
        "InvalidFactoryError",
        "OptimError",
        "OptimWarning",
        "Problem",
        "StateMismatchError",
        "UnknownOptimizerError",
    ),
    "factories.factory": ("OptimizerFactory",),
    "discovery.hooks": ("HookLoadWarning", "hook_manager", "hookimpl"),
    "optimizer.evaluation_weights": ("evaluation_weights",),
    "parameter_groups.assignment": ("GroupAssignment",),
    "configuration.group_rules": ("GroupRule", "PolicyUse"),
    "arguments.number_types": (
        "Beta",
        "Finite",
        "LearningRate",
        "NonNegative",
        "PeakLearningRate",
        "PeakLearningRateOrTensor",
        "StepCount",
        "Steps",
    ),
    "discovery.registry": ("OPTIMIZER_BUILDER_REGISTRY", "OptimizerRegistry"),
    "schedules.schedule": ("Schedule", "WarmupCosine"),
    "optimizer.schedule_state": ("OnMismatch",),
    "optimizer.scheduled_adamw": ("ScheduledAdamW",),
    "optimizer.scheduled_optimizer": ("ScheduleWarning", "ScheduledOptimizer"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "OPTIMIZER_BUILDER_REGISTRY",
    "Beta",
    "CaptureError",
    "CheckpointError",
    "CheckpointMismatchError",
    "Claims",
    "ComponentOptimizers",
    "ComponentSpec",
    "ConfigurationError",
    "DuplicateOptimizerError",
    "EvaluationModeError",
    "FactoryEntry",
    "FactoryLoadError",
    "Finite",
    "GroupAssignment",
    "GroupRule",
    "HookLoadWarning",
    "InvalidArgumentsError",
    "InvalidFactoryError",
    "LearningRate",
    "NonNegative",
    "Note",
    "OnMismatch",
    "OptimError",
    "OptimWarning",
    "OptimizerFactory",
    "OptimizerRegistry",
    "PeakLearningRate",
    "PeakLearningRateOrTensor",
    "PolicyUse",
    "Problem",
    "ResumeWarning",
    "Rule",
    "Schedule",
    "ScheduleWarning",
    "ScheduledAdamW",
    "ScheduledOptimizer",
    "StateMismatchError",
    "StepCount",
    "Steps",
    "UncoveredParametersWarning",
    "UnknownOptimizerError",
    "WarmupCosine",
    "build_optimizers",
    "check_arguments",
    "evaluation_weights",
    "hook_manager",
    "hookimpl",
    "load_checkpoint",
    "save_checkpoint",
    "validate_fields",
]


def __getattr__(name: str) -> _Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
