"""For authors of optimizers that don't build on `ScheduledOptimizer`: what PyTorch's tools ask of them.

A `step()` of one's own around another's runs the hooks once (`without_hooks`), tells the dry step of a
distributed checkpoint (`is_dry_step`), and stays out of compiled code (`keep_uncompiled`); a state is
matched by the names of its parameters (`matched_by_name`), and one of other parameters is refused
(`require_same_groups`); a group that is added later has names where all have (`names_for_group`);
warnings point at the user's line (`warn_caller`); and the fastest of PyTorch's implementations
makes the update (`choose_implementation`).
"""

from optim_core.optimizer.fused_or_foreach import choose_implementation
from optim_core.optimizer.schedule_state import require_same_groups
from optim_core.optimizer.state_matching import matched_by_name, names_for_group
from optim_core.pytorch.compilation import keep_uncompiled
from optim_core.pytorch.dry_step import is_dry_step
from optim_core.pytorch.step_hooks import without_hooks
from optim_core.pytorch.user_warnings import warn_caller

__all__ = [
    "choose_implementation",
    "is_dry_step",
    "keep_uncompiled",
    "matched_by_name",
    "names_for_group",
    "require_same_groups",
    "warn_caller",
    "without_hooks",
]
