"""Schedule-free RAdam, the schedulefree library's own, with its modes made safe."""

from optim_schedule_free_radam.factory import ScheduleFreeRAdamFactory
from optim_schedule_free_radam.optimizer import ScheduleFreeRAdam

__version__ = "0.2.0"

__all__ = ["ScheduleFreeRAdam", "ScheduleFreeRAdamFactory"]
