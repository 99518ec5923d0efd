"""`optim new`: a new plugin, complete and working, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import importlib_metadata

from optim_core import OPTIMIZER_BUILDER_REGISTRY
from optim_tools.command.failures import CommandError
from optim_tools.command.report import printable
from optim_tools.scaffolding.author import PLACEHOLDER, Author, author_from_git
from optim_tools.scaffolding.distribution import PLACEHOLDER_CLASS, files_of, metadata_of
from optim_tools.scaffolding.licenses import LICENSES
from optim_tools.scaffolding.names import InvalidNameError, PluginNames, names_of
from optim_tools.scaffolding.plugin import Plugin
from optim_tools.scaffolding.wrapping import Findings, Wrapping
from optim_tools.scaffolding.writing import new_folder, write_files

if TYPE_CHECKING:
    from rich.console import Console

    from optim_tools.scaffolding.findings import Seen

__all__ = ["NewPlugin", "new_plugin"]

_SHOWN = 100  # characters of what a check has seen


@dataclass(frozen=True)
class NewPlugin:
    """A plugin that was written.

    Attributes:
        plugin: what it is.
        folder: where it is, as the command was told.
        files: their paths in there.
    """

    plugin: Plugin
    folder: Path
    files: tuple[str, ...]

    @property
    def status(self) -> int:
        """0: what the conformance kit finds of a wrapped class is no failure of the command."""
        return 0

    def document(self) -> dict[str, Any]:
        """Where it is, its names, its files, what was found of a wrapped class, and the commands that follow."""
        names, wrapping = self.plugin.names, self.plugin.wrapping
        return {
            "folder": str(self.folder),
            "distribution": names.distribution,
            "package": names.package,
            "key": names.key,
            "factory": f"{names.package}:{names.factory}",
            "license": self.plugin.license.name,
            "files": list(self.files),
            "wrapped": None if wrapping is None else _wrapping_document(wrapping),
            "next": list(self._next()),
        }

    def render(self, console: Console) -> None:
        """The files, what was found, and what to do next; the commands are flush left, to be pasted."""
        names, wrapping = self.plugin.names, self.plugin.wrapping
        console.print(f"{names.distribution}: {len(self.files)} files in {self.folder}{os.sep}", style="bold")
        for path in self.files:
            console.print(f"  {path}", style="dim")
        if wrapping is not None:
            _print_wrapping(console, wrapping)
        console.print("\nNext", style="bold")
        for command in self._next():
            # Not print(), which folds lines.
            console.out(command)

    def _next(self) -> Iterator[str]:
        names = self.plugin.names
        folder = shlex.quote(_relative(self.folder))
        yield f"python -m pip install --editable {shlex.quote(_relative(self.folder) + '[dev]')}"
        yield f"optim verify {names.key}"
        yield f"python -m build {folder}"
        if self.plugin.license.name != "proprietary":
            yield f"python -m twine upload {folder}/dist/*"


def new_plugin(
    name: str,
    *,
    key: str | None,
    bare: bool,
    wrap: str | None,
    directory: Path,
    license_name: str,
    author: str | None,
    email: str | None,
    verify: bool,
    timeout: float,
) -> NewPlugin:
    """Write a new plugin.

    Args:
        name: of the plugin: `my-lion` for the distribution `optim-my-lion`.
        key: its registry key; the name if None.
        bare: without an optimizer of its own: only a factory.
        wrap: `package.module:Class` of the optimizer class that the factory is for; None for a placeholder.
        directory: where its folder is made.
        license_name: one of `LICENSES`.
        author: who it is by; whoever commits here with git if None.
        email: that author's address.
        verify: hold a wrapped class to the conformance kit, and have its factory claim what was found.
        timeout: seconds that one check may take.

    Raises:
        CommandError: it can't be written; nothing is left behind.
    """
    names = _names(name, key)
    folder = directory / names.distribution
    if os.path.lexists(folder):
        raise CommandError(f"{folder} is there already; remove it, or choose another name or --directory", status=2)
    plugin = Plugin(names, _author(author, email), LICENSES[license_name], date.today().year)
    if wrap is not None:
        wrapping = _wrapping(wrap, names)
        plugin = replace(plugin, names=names.around(wrapping.path), wrapping=wrapping)
    elif bare:
        plugin = replace(plugin, wrapping=PLACEHOLDER_CLASS)
    try:
        with new_folder(folder) as staging:
            write_files(staging, files_of(plugin))
            if wrap is not None and verify:
                plugin = _verified(plugin, staging, timeout)
            files = files_of(plugin)
    except FileExistsError as error:
        raise CommandError(f"{folder} is there already", status=2) from error
    except OSError as error:
        raise CommandError(f"{folder} can't be written: {error.strerror or error}") from error
    return NewPlugin(plugin, folder, tuple(sorted(files)))


def _names(name: str, key: str | None) -> PluginNames:
    try:
        return names_of(name, key)
    except InvalidNameError as error:
        first, *others = error.problems
        raise CommandError(f"{error.name!r}: {first}", details=others, status=2) from error


def _author(name: str | None, email: str | None) -> Author:
    known = author_from_git() if name is None else None
    found = known or PLACEHOLDER
    try:
        address = found.email if name is None else None
        return Author(found.name if name is None else name, address if email is None else email)
    except ValueError as error:
        raise CommandError(f"the author can't be written into the package: {error}", status=2) from error


def _wrapping(reference: str, names: PluginNames) -> Wrapping:
    """Read the class; only here is torch imported."""
    from optim_tools.command.object_reference import referenced_object
    from optim_tools.scaffolding.constructor import NotWrappableError
    from optim_tools.scaffolding.reading import read_class

    form, example = "package.module:Class", "torch.optim:NAdam"
    module, path, target = referenced_object("--wrap", reference, form=form, example=example)
    try:
        return read_class(target, module, path, names)
    except NotWrappableError as error:
        raise CommandError(f"--wrap {reference!r}: {error}", status=2) from error


def _verified(plugin: Plugin, staging: Path, timeout: float) -> Plugin:
    """Hold the factory to the conformance kit as it is written, and have it claim what was found."""
    from optim_tools.scaffolding.findings import denied, findings_of, optimistic

    wrapping = plugin.wrapping
    assert wrapping is not None
    flags = optimistic({} if wrapping.findings is None else wrapping.findings.flags)
    seen: dict[str, Seen] = {}
    chosen: list[str] | None = None
    while chosen is None or chosen:
        trial = replace(plugin, wrapping=replace(wrapping, findings=Findings(flags)))
        write_files(staging, files_of(trial))
        found = _seen(trial, staging / "src", chosen, timeout)
        seen |= found
        less = denied(found.values())
        flags |= dict.fromkeys(less, False)
        # Some flags change what other checks do: what failed with them may pass without.
        chosen = [s.identifier for s in found.values() if s.failed and s.flag is None] if less else []
    plugin = replace(plugin, wrapping=replace(wrapping, findings=findings_of(flags, seen.values())))
    write_files(staging, files_of(plugin))
    return plugin


def _seen(plugin: Plugin, folder: Path, identifiers: Sequence[str] | None, timeout: float) -> dict[str, Seen]:
    """What comes of these checks, or of all; as with `optim verify`, each in a process that it may take with it."""
    from optim_tools.command.verify_key import verify_key
    from optim_tools.conformance import CHECKS
    from optim_tools.scaffolding.findings import Seen

    claimed = {check.identifier: check.claim for check in CHECKS}
    # What concerns the distribution is right by construction, once it is installed.
    chosen = identifiers or [check.identifier for check in CHECKS if check.family != "packaging"]
    try:
        with _found_in(folder, metadata_of(plugin)):
            results = verify_key(plugin.names.key, (), chosen, timeout=timeout).results
    except OSError as error:
        # Nothing that is wrong with the folder into which the plugin is written.
        reason = error.strerror or error
        raise CommandError(f"the conformance kit can't be carried out: {reason}; --no-verify leaves it out") from error
    return {
        r.identifier: Seen(r.identifier, claimed[r.identifier], r.outcome == "passed", r.is_fault, r.seen)
        for r in results
    }


@contextlib.contextmanager
def _found_in(folder: Path, metadata: Mapping[str, str]) -> Iterator[None]:
    """Within, the distribution is found as if it were installed."""
    with tempfile.TemporaryDirectory() as site:
        write_files(Path(site), metadata)
        before = list(sys.path)
        # Without the current folder, whose modules an installed plugin wouldn't find.
        sys.path[:] = [site, str(folder.resolve()), *filter(None, before)]
        importlib_metadata.MetadataPathFinder.invalidate_caches()
        OPTIMIZER_BUILDER_REGISTRY.refresh()
        try:
            yield
        finally:
            sys.path[:] = before
            OPTIMIZER_BUILDER_REGISTRY.refresh()


def _relative(folder: Path) -> str:
    """A folder as pip takes it: with a slash in it, so that it is no name of a distribution."""
    return str(folder) if folder.is_absolute() else f".{os.sep}{folder}"


def _wrapping_document(wrapping: Wrapping) -> dict[str, Any]:
    found = wrapping.findings or Findings()
    return {
        "class": f"{wrapping.module}:{wrapping.path}",
        "requirement": wrapping.source.requirement,
        "parameters": [option.name for option in wrapping.options],
        "left_out": dict(wrapping.left_out),
        "verified": bool(found.passed),
        "claims": dict(found.flags),
        "expected_failures": dict(found.failures),
    }


def _print_wrapping(console: Console, wrapping: Wrapping) -> None:
    if wrapping is PLACEHOLDER_CLASS:
        console.print("\nIts factory builds torch.optim.SGD: put your own class in its place.")
        return
    count = len(wrapping.options)
    console.print(f"\nIt builds {wrapping.module}.{wrapping.path}, with {count} parameters.")
    for name, reason in wrapping.left_out.items():
        console.print(f"  {name} is left out: {reason}")
    if wrapping.source.text is not None:
        console.print("  No distribution has this class: its module was copied into the package.")
    found = wrapping.findings
    if found is None or not found.passed:
        return
    console.print(f"\nThe conformance kit: {found.passed} checks passed.")
    for flag, value in found.flags.items():
        console.print(f"  {flag}={value}: so it is claimed")
    for identifier, seen in found.failures.items():
        shown = seen if len(seen) <= _SHOWN else f"{seen[:_SHOWN].rsplit(' ', 1)[0]} ..."
        console.print(printable(f"  {identifier} fails: {shown}"))
    if found.failures:
        console.print("What fails is in the factory's CLAIMS as expected; mend it there, or tell your users.")
