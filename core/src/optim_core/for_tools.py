"""What optim-tools needs of the core beside its public names. It is for that distribution, of the very same version.

Nothing here is public: any release may change it. The names stand in `for_tools.pyi`, and are imported when used.
"""

import lazy_loader as _lazy_loader

__getattr__, __dir__, __all__ = _lazy_loader.attach_stub("optim_core", __file__)
