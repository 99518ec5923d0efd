"""AdamW on the one-cycle schedule of learning rate and momentum, all inside `step()`."""

from optim_adamw_onecycle.factory import AdamWOneCycleFactory
from optim_adamw_onecycle.optimizer import AdamWWithOneCycle
from optim_adamw_onecycle.schedule import OneCycle

__version__ = "0.2.0"

__all__ = ["AdamWOneCycleFactory", "AdamWWithOneCycle", "OneCycle"]
