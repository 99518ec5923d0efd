"""AdamW whose learning rate warms up linearly and decays along a cosine, all inside `step()`."""

from optim_adamw_warmup_cosine.factory import AdamWWarmupCosineFactory
from optim_adamw_warmup_cosine.optimizer import AdamWWithWarmupCosine

__version__ = "0.2.0"

__all__ = ["AdamWWarmupCosineFactory", "AdamWWithWarmupCosine"]
