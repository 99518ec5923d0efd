"""Every file of a new distribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from optim_tools.inspection.yaml_text import configuration_yaml
from optim_tools.scaffolding.factory_source import factory_source
from optim_tools.scaffolding.names import PluginNames
from optim_tools.scaffolding.plugin import Plugin
from optim_tools.scaffolding.project_file import project_file
from optim_tools.scaffolding.source_text import import_of, list_of, sorted_names, text_of
from optim_tools.scaffolding.templates import render
from optim_tools.scaffolding.wrapping import Findings, Option, Wrapping

__all__ = ["PLACEHOLDER_CLASS", "files_of", "metadata_of"]

PLACEHOLDER_CLASS = Wrapping(
    "torch.optim",
    "SGD",
    "Stochastic gradient descent with momentum; put your own optimizer class in its place.",
    (
        Option("lr", "LearningRate", "1e-3", "absolute learning rate."),
        Option("momentum", "NonNegative", "0.0", "coefficient of the running sum of gradients."),
        Option("weight_decay", "NonNegative", "0.0", "coefficient of the weights that is added to the gradient."),
    ),
    example={"lr": 0.01},
    findings=Findings({"complex": True, "sparse": True}),
)
"""What a bare factory is around before its author has put another class there."""

_OWN_PARAMS = {"peak_lr": 3e-4, "total_steps": 100_000, "warmup_steps": 1000}


def files_of(plugin: Plugin) -> dict[str, str]:
    """The texts of all files, by path."""
    names, package = plugin.names, PurePosixPath("src", plugin.names.package)
    files = {
        "pyproject.toml": project_file(plugin),
        "LICENSE": plugin.license.text(year=plugin.year, author=plugin.author.name),
        ".gitignore": render("gitignore.txt", {}),
        ".github/workflows/ci.yml": render("ci.yml.txt", {}),
        "noxfile.py": render("noxfile.py.txt", plugin.places()),
        f"{package}/py.typed": "",
    }
    tests = f"tests/test_{names.package.removeprefix('optim_')}.py"
    if plugin.wrapping is None:
        own = _own(plugin, tests)
    else:
        own = _around(plugin, _as_imported(plugin, plugin.wrapping), tests)
    return files | {path.replace("PACKAGE", str(package)): text for path, text in own.items()}


def metadata_of(plugin: Plugin) -> dict[str, str]:
    """The files by which the plugin is found where its modules are, without being installed."""
    names = plugin.names
    info = f"{names.package}-0.1.0.dist-info"
    point = f"[optim.factories]\n{names.key} = {names.package}:{names.factory}\n"
    return {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {names.distribution}\nVersion: 0.1.0\n",
        f"{info}/entry_points.txt": point,
    }


def _own(plugin: Plugin, tests: str) -> dict[str, str]:
    """The modules, the tests and the README of a plugin with an optimizer of its own."""
    names = plugin.names
    values = plugin.places() | {
        "development": render("development.md.txt", plugin.places()),
        "yaml": configuration_yaml(names.key, _OWN_PARAMS),
    }
    modules = {"factory": [names.factory], "optimizer": [names.optimizer, names.scheduled]}
    summary = "Steps along the sign of a running average of the gradient, on a schedule inside `step()`."
    return {
        "PACKAGE/__init__.py": _package(plugin, summary, modules),
        "PACKAGE/factory.py": render("own/factory.py.txt", values),
        "PACKAGE/optimizer.py": render("own/optimizer.py.txt", values),
        tests: render("own/tests.py.txt", values),
        "README.md": render("own/readme.md.txt", values),
    }


def _as_imported(plugin: Plugin, wrapping: Wrapping) -> Wrapping:
    copied = plugin.copied_module
    return wrapping if copied is None else replace(wrapping, module=f"{plugin.names.package}.{copied}")


def _around(plugin: Plugin, wrapping: Wrapping, tests: str) -> dict[str, str]:
    """The modules, the tests and the README of a plugin around a class that exists."""
    names = plugin.names
    modules = {"factory": [names.factory]}
    files = {"PACKAGE/factory.py": factory_source(names, wrapping)}
    if plugin.copied_module is not None:
        modules[plugin.copied_module] = [wrapping.top_name]
        files[f"PACKAGE/{plugin.copied_module}.py"] = wrapping.source.text or ""
    values = plugin.places() | {
        "module": wrapping.module,
        "wrapped": wrapping.path,
        "yaml": configuration_yaml(names.key, wrapping.example),
        "findings": _findings(wrapping.findings),
        "development": render("development.md.txt", plugin.places()),
        "imports": _test_imports(names, wrapping),
        "arguments": _test_arguments(wrapping),
        "deadly": _left_to_the_command(wrapping.findings),
    }
    return files | {
        "PACKAGE/__init__.py": _package(plugin, f"`{wrapping.module}.{wrapping.path}` as a plugin.", modules),
        tests: render("wrapped/tests.py.txt", values),
        "README.md": render("wrapped/readme.md.txt", values),
    }


def _package(plugin: Plugin, summary: str, modules: Mapping[str, list[str]]) -> str:
    package = plugin.names.package
    exported = sorted_names([name for names in modules.values() for name in names])
    return render(
        "package.py.txt",
        {
            "summary": summary,
            "imports": "\n".join(import_of(f"{package}.{module}", names) for module, names in sorted(modules.items())),
            "exported": list_of("__all__ = [", list(map(text_of, exported)), "]"),
        },
    )


def _findings(findings: Findings | None) -> str:
    if findings is None:
        return ""
    lines = [f"- `{identifier}`: {seen}" for identifier, seen in findings.failures.items()]
    denied = [f"`{flag}`" for flag, claimed in findings.flags.items() if not claimed]
    if denied:
        lines.append(f"- not claimed, as the class can't do it: {', '.join(denied)}")
    return "\n".join(["", "## What the conformance kit found", "", *lines, ""]) if lines else ""


def _test_imports(names: PluginNames, wrapping: Wrapping) -> str:
    others = {"optim_tools.conformance": ["OptimizerConformance"]}
    own = {names.package: [names.factory]}
    target = own if wrapping.module.startswith(f"{names.package}.") else others
    target.setdefault(wrapping.module, []).append(wrapping.top_name)
    blocks = ([import_of(module, block[module]) for module in sorted(block, key=str.lower)] for block in (others, own))
    return "import torch\n" + "\n\n".join("\n".join(block) for block in blocks)


def _left_to_the_command(findings: Findings | None) -> str:
    """Lines of the test class that take out the checks which no test runner would survive."""
    if findings is None or not findings.deadly:
        return ""
    lines = [f"    test_{identifier.replace('-', '_')} = None" for identifier in findings.deadly]
    return "\n".join(
        ["", "    # Python doesn't survive these, or they don't end: `optim verify` reports them.", *lines, ""]
    )


def _test_arguments(wrapping: Wrapping) -> str:
    if not any(option.positional for option in wrapping.options):
        return "**EXAMPLE"
    given = [option for option in wrapping.options if option.name in wrapping.example]
    return ", ".join(f"{'' if o.positional else f'{o.name}='}EXAMPLE[{text_of(o.name)}]" for o in given)
