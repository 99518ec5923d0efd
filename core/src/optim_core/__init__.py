"""The core of optim: a registry of optimizer factories, and optimizers that step their own schedule.

Names are imported when they are first used: `import optim_core`, and listing the registry's keys,
import neither torch nor any plugin.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from optim_core.arguments import Note, Rule, check_arguments, validate_fields
    from optim_core.building import UncoveredParametersWarning, build_optimizers
    from optim_core.checkpoint import ResumeWarning, load_checkpoint, save_checkpoint
    from optim_core.claims import Claims
    from optim_core.component_optimizers import ComponentOptimizers
    from optim_core.configuration import ComponentSpec
    from optim_core.discovery import FactoryEntry
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
    from optim_core.factory import OptimizerFactory
    from optim_core.group_rules import GroupRule, PolicyUse
    from optim_core.hooks import HookLoadWarning, hook_manager, hookimpl
    from optim_core.modes import evaluation_weights
    from optim_core.parameter_groups.assignment import GroupAssignment
    from optim_core.quantities import (
        Beta,
        Finite,
        LearningRate,
        NonNegative,
        PeakLearningRate,
        PeakLearningRateOrTensor,
        StepCount,
        Steps,
    )
    from optim_core.registry import OPTIMIZER_BUILDER_REGISTRY, OptimizerRegistry
    from optim_core.schedule import Schedule, WarmupCosine
    from optim_core.schedule_state import OnMismatch
    from optim_core.scheduled_adamw import ScheduledAdamW
    from optim_core.scheduled_optimizer import ScheduledOptimizer, ScheduleWarning

__version__ = "0.1.0"

_MODULES = {
    "arguments": ("Note", "Rule", "check_arguments", "validate_fields"),
    "building": ("UncoveredParametersWarning", "build_optimizers"),
    "checkpoint": ("ResumeWarning", "load_checkpoint", "save_checkpoint"),
    "claims": ("Claims",),
    "component_optimizers": ("ComponentOptimizers",),
    "configuration": ("ComponentSpec",),
    "discovery": ("FactoryEntry",),
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
    "factory": ("OptimizerFactory",),
    "hooks": ("HookLoadWarning", "hook_manager", "hookimpl"),
    "modes": ("evaluation_weights",),
    "parameter_groups.assignment": ("GroupAssignment",),
    "group_rules": ("GroupRule", "PolicyUse"),
    "quantities": (
        "Beta",
        "Finite",
        "LearningRate",
        "NonNegative",
        "PeakLearningRate",
        "PeakLearningRateOrTensor",
        "StepCount",
        "Steps",
    ),
    "registry": ("OPTIMIZER_BUILDER_REGISTRY", "OptimizerRegistry"),
    "schedule": ("Schedule", "WarmupCosine"),
    "schedule_state": ("OnMismatch",),
    "scheduled_adamw": ("ScheduledAdamW",),
    "scheduled_optimizer": ("ScheduleWarning", "ScheduledOptimizer"),
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
