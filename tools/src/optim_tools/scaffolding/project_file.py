"""The file pyproject.toml of a new distribution: metadata, the entry point, the settings of tools."""

from __future__ import annotations

import json

from optim_tools.inspection.core_requirement import core_requirement, tools_requirement
from optim_tools.scaffolding.author import Author
from optim_tools.scaffolding.plugin import Plugin
from optim_tools.scaffolding.templates import render
from optim_tools.scaffolding.wrapping import Wrapping

__all__ = ["project_file"]

_TORCH = "torch>=2.10"


def project_file(plugin: Plugin) -> str:
    """The text of pyproject.toml."""
    names, wrapping = plugin.names, plugin.wrapping
    needed = [core_requirement(), *_class_requirements(wrapping)]
    return (
        render(
            "pyproject.toml.txt",
            {
                **plugin.places(),
                "quoted_key": json.dumps(names.key) if "." in names.key else names.key,
                "description": json.dumps(_description(plugin), ensure_ascii=False),
                "license": plugin.license.expression,
                "private": '    "Private :: Do Not Upload",\n' if plugin.license.name == "proprietary" else "",
                "author": _author(plugin.author),
                "dependencies": "\n".join(f"    {json.dumps(requirement)}," for requirement in sorted(needed)),
                "warnings": _warnings(wrapping),
                "ruff": _ruff(plugin),
                "mypy": _mypy(plugin),
                "tools": tools_requirement(),
            },
        ).rstrip()
        + "\n"
    )


def _description(plugin: Plugin) -> str:
    if plugin.wrapping is None:
        return "Steps along the sign of a running average of the gradient, as a plugin for optim"
    return f"{plugin.wrapping.module}.{plugin.wrapping.path} as a plugin for optim"


def _author(author: Author) -> str:
    email = "" if author.email is None else f", email = {json.dumps(author.email, ensure_ascii=False)}"
    return f"{{ name = {json.dumps(author.name, ensure_ascii=False)}{email} }}"


def _class_requirements(wrapping: Wrapping | None) -> list[str]:
    if wrapping is None:
        return [_TORCH]
    requirement = wrapping.source.requirement
    needed = [*([] if requirement is None else [requirement]), *wrapping.source.imported]
    if not any(r.startswith("torch>=") for r in needed):
        needed.append(_TORCH)
    annotated = any("Annotated[" in option.annotation for option in wrapping.options)
    if annotated and not any(r.startswith("annotated-types>=") for r in needed):
        needed.append("annotated-types>=0.6")
    return needed


def _warnings(wrapping: Wrapping | None) -> str:
    # A stranger's class may warn of itself, and in whose name depends on its stacklevel: nothing tells it apart.
    remark = '    # Not "error": what the class itself warns of is shown, and is for its author to mend.\n'
    return '    "error",\n' if wrapping is None else remark


def _ruff(plugin: Plugin) -> str:
    if plugin.copied_module is None:
        return ""
    return f'# As it was found.\nextend-exclude = ["src/{plugin.names.package}/{plugin.copied_module}.py"]\n'


def _mypy(plugin: Plugin) -> str:
    if plugin.wrapping is None or plugin.wrapping.module.partition(".")[0] == "torch":
        return ""
    if plugin.copied_module is not None:
        module = f"{plugin.names.package}.{plugin.copied_module}"
        lines = [f'untyped_calls_exclude = ["{module}"]', "", "[[tool.mypy.overrides]]"]
        return "\n".join([*lines, f'module = ["{module}"]', "ignore_errors = true", ""])
    top = plugin.wrapping.module.partition(".")[0]
    lines = [f'untyped_calls_exclude = ["{top}"]']
    if not plugin.wrapping.source.typed:
        lines += ["", "[[tool.mypy.overrides]]", f'module = ["{top}", "{top}.*"]', "ignore_missing_imports = true"]
    return "\n".join(lines) + "\n"
