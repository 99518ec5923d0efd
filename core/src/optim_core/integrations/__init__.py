"""Thin adapters for trainers: Lightning and the Trainer of Transformers. Accelerate needs none.

The public names stand in `__init__.pyi`. Each is imported when it is first used, and a trainer's package only by the
adapter for it: `import optim_core.integrations` imports neither torch nor any trainer.
"""

import lazy_loader as _lazy_loader

__getattr__, __dir__, __all__ = _lazy_loader.attach_stub(__name__, __file__)
