"""What a new distribution is to be."""

from __future__ import annotations

from dataclasses import dataclass

from optim_tools.scaffolding.author import Author
from optim_tools.scaffolding.licenses import License
from optim_tools.scaffolding.names import PluginNames
from optim_tools.scaffolding.source_text import sorted_names, text_of
from optim_tools.scaffolding.wrapping import Wrapping

__all__ = ["Plugin"]


@dataclass(frozen=True)
class Plugin:
    """A distribution that is to be written.

    Attributes:
        names: every name in it.
        author: who it is by.
        license: its licence.
        year: of the copyright.
        wrapping: the class that its factory builds; None where it has an optimizer of its own.
    """

    names: PluginNames
    author: Author
    license: License
    year: int
    wrapping: Wrapping | None = None

    @property
    def copied_module(self) -> str | None:
        """The name within the package of a module that no distribution has."""
        if self.wrapping is None or self.wrapping.source.text is None:
            return None
        name = self.wrapping.module
        return f"{name}_optimizer" if name in ("factory", "__init__") else name

    def places(self) -> dict[str, str]:
        """What every template may have a place for."""
        names = self.names
        return {
            "distribution": names.distribution,
            "package": names.package,
            "key": names.key,
            "optimizer": names.optimizer,
            "scheduled": names.scheduled,
            "factory": names.factory,
            "exported": ", ".join(map(text_of, sorted_names([names.optimizer, names.scheduled]))),
        }
