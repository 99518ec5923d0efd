"""Each public name, and where it is from."""

from .lightning_callback import ScheduleFreeCallback as ScheduleFreeCallback
from .read_only_scheduler import ReadOnlyScheduler as ReadOnlyScheduler
from .transformers_callback import ScheduleFreeTrainerCallback as ScheduleFreeTrainerCallback
