"""Thin adapters for trainers: Lightning and the Trainer of Transformers. Accelerate needs none.

Names are imported when they are first used, and a trainer's package only by the adapter for it:
`import optim_core.integrations` imports neither torch nor any trainer.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from optim_core.integrations.lightning_callback import ScheduleFreeCallback
    from optim_core.integrations.read_only_scheduler import ReadOnlyScheduler
    from optim_core.integrations.transformers_callback import ScheduleFreeTrainerCallback

_HOME = {
    "ReadOnlyScheduler": "read_only_scheduler",
    "ScheduleFreeCallback": "lightning_callback",
    "ScheduleFreeTrainerCallback": "transformers_callback",
}

__all__ = ["ReadOnlyScheduler", "ScheduleFreeCallback", "ScheduleFreeTrainerCallback"]


def __getattr__(name: str) -> _Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
