"""The core of optim: a registry of optimizer factories, and optimizers that step their own schedule.

The public names stand in `__init__.pyi`. Each is imported when it is first used: `import optim_core`, and listing
the registry's keys, import neither torch nor any plugin.
"""

import lazy_loader as _lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = _lazy_loader.attach_stub(__name__, __file__)
