"""`optim verify`: the checks of the conformance kit on one installed plugin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from optim_core import OPTIMIZER_BUILDER_REGISTRY
from optim_tools.command.given_params import given_params
from optim_tools.command.isolated_checks import CheckResult, IsolatedChecks
from optim_tools.command.key_factory import imported_factory
from optim_tools.command.report import print_rows, printable
from optim_tools.inspection.yaml_text import yaml_text

if TYPE_CHECKING:
    from optim_tools.command.report import Report

__all__ = ["Verification", "list_checks", "verify_key"]

_LABEL = 16  # columns of what stands before each part of a fault's story


@dataclass(frozen=True)
class Verification:
    """What came of the checks on one key.

    Attributes:
        subject: who provides the key, and the params that its factory was constructed with.
        results: in the order in which they were carried out.
    """

    subject: Mapping[str, Any]
    results: Sequence[CheckResult]

    @property
    def status(self) -> int:
        """1 where a check failed, or passed that was expected to fail."""
        return int(any(result.is_fault for result in self.results))

    def document(self) -> dict[str, Any]:
        """Who was checked with which params, how many checks came to what, and each of them."""
        told = ("key", "distribution", "version", "value", "params")
        return {
            "ok": self.status == 0,
            **{name: self.subject[name] for name in told},
            "counts": dict(self._counts()),
            "checks": [_check_document(result) for result in self.results],
        }

    def render(self, console: Console) -> None:
        """A row for each check, the story of each fault, and how many there are."""
        console.print(printable(f"{self.subject['key']} from {self.subject['provider']}"), style="bold")
        given = [f"{name}={yaml_text(value)}" for name, value in self.subject["params"].items()]
        console.print(printable(f"with {' '.join(given) or 'no params'}\n"), style="dim")
        rows = [(r.identifier, r.outcome, f"{r.seconds:.1f} s", " ".join(r.reason.split())) for r in self.results]
        print_rows(console, ("check", "outcome", "time", "reason"), rows, numeric=("time",))
        for result in self.results:
            if result.is_fault:
                _print_fault(console, result)
        console.print(f"\n{self._summary()}", style="bold red" if self.status else "bold green")

    def _summary(self) -> str:
        counts, faults = self._counts(), {r.outcome for r in self.results if r.is_fault}
        fine = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if outcome not in faults)
        wrong = ", ".join(f"{counts[outcome]} {outcome}" for outcome in counts if outcome in faults)
        return "; ".join(filter(None, (fine, wrong)))

    def _counts(self) -> Counter[str]:
        # Those that passed first of all, whatever came of the first check.
        ordered = sorted(self.results, key=lambda result: result.outcome != "passed")
        return Counter(result.outcome for result in ordered)


def verify_key(key: str, params: Sequence[str], checks: Sequence[str], *, timeout: float) -> Verification:
    """Carry out the checks on an installed plugin, in a process of their own.

    Args:
        key: the registry key.
        params: what its factory is constructed with, as `name=value`; its own example if there are none.
        checks: identifiers of checks, or families of them; all if there are none.
        timeout: seconds that one check may take.

    Raises:
        CommandError: nothing can be checked: no such key, check or parameter, or the plugin can't be used.
    """
    given_params(params)  # for what is wrong with them: the process that checks reads them again
    if key not in OPTIMIZER_BUILDER_REGISTRY:
        imported_factory(key)  # which says why there is none
    with _progress() as watch:
        isolated = IsolatedChecks(key, params, checks, timeout=timeout, watch=watch)
        with closing(isolated.results()) as results:
            found = tuple(results)
    return Verification(isolated.subject, found)


def list_checks(checks: Sequence[str]) -> Report:
    """The checks of these names, or all of them, without carrying them out.

    Raises:
        CommandError: there is no check of a name (status 2).
    """
    from optim_tools.command.check_selection import CheckList, selected_checks  # with torch

    return CheckList(selected_checks(checks))


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """What shows in a terminal which check is carried out now."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("importing the plugin", total=None)

        def watch(check: str, done: int, total: int) -> None:
            progress.update(task, description=check, completed=done, total=total)

        yield watch


def _print_fault(console: Console, result: CheckResult) -> None:
    console.print(f"\n{result.outcome}: {result.identifier}", style="red")
    story = {
        "why it matters": result.why,
        "seen": result.seen,
        "expected": result.expected,
        "likely cause": result.cause,
    }
    for label, text in story.items():
        line = f"{f'{label}:':<{_LABEL}}{' '.join(printable(text).split())}"
        console.print(Padding(line, (0, 0, 0, 2)))


def _check_document(result: CheckResult) -> dict[str, Any]:
    told = {name: value if value != "" else None for name, value in asdict(result).items() if name != "is_fault"}
    return {**told, "seconds": round(result.seconds, 3)}
