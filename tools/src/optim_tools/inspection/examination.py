"""One installed plugin, imported and checked: what `optim_tools.inspection.isolation` runs in a process of its own.

Its `main` is given a request and writes the result, one JSON document, to the standard output that
the process was started with; whatever a plugin prints goes to standard error.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from optim_core import OptimError
from optim_core.for_tools import HOOKS_GROUP, find_entries, in_one_line, load_factory
from optim_tools.inspection.processes import private_output

__all__ = ["TORCH", "examine"]

TORCH = "torch"
"""The request to import PyTorch itself."""


def examine(group: str, key: str, distribution: str, value: str) -> dict[str, Any]:
    """Import an entry point and check it; the result says what it is, and the first thing wrong with it."""
    found = [e for e in find_entries(group) if (e.key, e.distribution, e.value) == (key, distribution, value)]
    if not found:
        return {"problem": "it is no longer installed"}
    if group == HOOKS_GROUP:
        from optim_core.for_tools import problem_of_hooks  # with pluggy, which factories don't need

        problem = problem_of_hooks(found[0])
        return {"problem": problem}
    try:
        target = load_factory(found[0])
    except OptimError as error:
        return {"problem": " ".join(str(getattr(error, "what", None) or _cause(error)).split())}
    return _examine_factory(target)


def _examine_factory(target: type) -> dict[str, Any]:
    # After the import of the plugin: what it takes is known only then to be of any use.
    from optim_core.for_tools import signature_of
    from optim_tools.inspection.description import describe
    from optim_tools.inspection.json_schema import factory_schema

    result: dict[str, Any] = {
        "problem": None,
        "description": describe(target).summary,
        "schema": factory_schema(target),
    }
    unusable = signature_of(target).positional_only
    if unusable:
        result["problem"] = (
            f"its constructor takes {', '.join(unusable)} by position only; no configuration can give it"
        )
    elif getattr(target, "example_params", None) is not None:
        result["problem"] = _problem_of(target, target.example_params, "its own example_params")  # type: ignore[attr-defined]
    elif not any(argument.required for argument in signature_of(target).arguments.values()):
        result["problem"] = _problem_of(target, {}, "its defaults")
    return result


def _problem_of(target: type, params: Any, what: str) -> str | None:
    from optim_core.for_tools import construct_factory
    from optim_tools.inspection.trial import trial_optimizer  # with torch, which the plugin has imported nearly always

    try:
        trial_optimizer(construct_factory(target, params))
    except Exception as error:
        # Whatever a stranger's code raises is what there is to report.
        return f"no optimizer can be built with {what}: {in_one_line(error)}"
    return None


def _cause(error: BaseException) -> str:
    return in_one_line(error.__cause__ or error)


def _examine_torch() -> dict[str, Any]:
    try:
        import torch
    except Exception as error:
        # A broken installation of PyTorch can fail in any way.
        return {"problem": f"it can't be imported: {in_one_line(error)}"}
    return {"problem": None, "version": torch.__version__, "cuda": torch.version.cuda, "devices": _devices(torch.cuda)}


def _devices(cuda: Any) -> list[str]:
    try:
        return [cuda.get_device_name(index) for index in range(cuda.device_count())]
    except Exception as error:
        # A driver's fault is none of the installation's, and can take any form.
        return [f"not to be had ({in_one_line(error)})"]


def main(request: Mapping[str, Any]) -> None:
    """Carry out a request: `what` to examine, within how many seconds (`timeout`)."""
    answer = private_output()
    # A plugin that hangs is shown where it does, and can't outlive who asked.
    faulthandler.dump_traceback_later(request["timeout"], exit=True)
    result = _examine_torch() if request["what"] == TORCH else examine(*request["what"])
    faulthandler.cancel_dump_traceback_later()
    with answer:
        json.dump(result, answer)
    # Threads that a plugin started, and what it has at exit, are of no interest any more.
    sys.stderr.flush()
    os._exit(0)
