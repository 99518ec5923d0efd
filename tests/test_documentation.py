"""The documentation knows everything that a user or an author of plugins can ask for."""

import inspect
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import click
import pytest

import optim_core.authoring
import optim_core.integrations
import optim_tools.conformance
from optim_core import Claims
from optim_core.configuration.group_rules import CONDITIONS, EFFECTS
from optim_core.discovery import hooks
from optim_core.parameter_groups.policies import POLICIES
from optim_tools.command.application import optim
from optim_tools.conformance import CHECKS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md"))]
COMMON = {"--help", "--version"}
PACKAGES = (optim_core, optim_core.authoring, optim_core.integrations, optim_tools.conformance)
HOOKS = [function for _, function in inspect.getmembers(hooks, inspect.isfunction) if hasattr(function, "optim_spec")]


def page(name):
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", optim.commands)
def test_every_command_and_option_is_documented(name):
    assert f"| `optim {name}" in page("command.md")
    options = {
        max(parameter.opts, key=len) for parameter in optim.commands[name].params if isinstance(parameter, click.Option)
    }
    text = page("command.md")
    assert {option for option in options if f"`{option}" not in text and f" {option}" not in text} <= COMMON


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_public_name_is_in_the_reference(package):
    _, _, section = page("reference.md").partition(f"\n## `{package.__name__}`\n")
    documented = re.findall(r"^\| `(\w+)` \| .+ \|$", section.partition("\n## ")[0], flags=re.MULTILINE)
    assert sorted(documented) == sorted(package.__all__)


def test_every_hook_and_its_arguments_are_documented():
    assert HOOKS
    for hook in HOOKS:
        arguments = inspect.signature(hook).parameters
        assert f"| `{hook.__name__}({', '.join(arguments)})` |" in page("hooks.md")
        assert [name for name in arguments if f"| `{name}` |" not in page("hooks.md")] == []


@pytest.mark.parametrize("name", [*POLICIES, *CONDITIONS, *EFFECTS])
def test_every_policy_and_every_key_of_a_rule_is_documented(name):
    assert f"\n| `{name}" in page("parameter-groups.md")


def test_every_hook_has_a_complete_example():
    blocks = "".join(re.findall(r"```python\n(.*?)```", page("hooks.md"), flags=re.DOTALL))
    assert [hook.__name__ for hook in HOOKS if f"def {hook.__name__}(" not in blocks] == []


def test_every_check_is_documented_with_its_reason_and_its_claim():
    rows = re.findall(r"^\| `(\w+-[\w-]+)` \| (.*) \|$", page("conformance.md"), flags=re.MULTILINE)
    assert rows == [(c.identifier, f"{c.why} Claim: `{c.claim}`." if c.claim else c.why) for c in CHECKS]


def test_every_claim_is_documented_with_its_default():
    rows = re.findall(r"^\| `(\w+)` \| ([\w ]+) \| .+ \|$", page("conformance.md"), flags=re.MULTILINE)
    words = {True: "true", False: "false", None: "found out"}
    assert rows == [(f.name, words[f.default]) for f in fields(Claims) if f.name != "expected_failures"]


def test_every_page_is_linked():
    linked = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    assert [path.name for path in DOCS.glob("*.md") if f"{path.name})" not in linked] == []


def test_every_link_leads_somewhere():
    for path in PAGES:
        prose = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", prose):
            found = path.parent / target if target else path
            assert found.exists(), f"{path.name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), flags=re.MULTILINE)
                slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
                assert anchor in slugs, f"{path.name}: {target}#{anchor}"


def tables(text):
    """The first cells, in code, of the rows below each heading."""
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    return {s.partition("\n")[0]: re.findall(r"^\| `([^`]+)` \|", s, flags=re.MULTILINE) for s in sections}


def parts_of(package):
    """The folders and modules at the top of a package, as the architecture's page writes them."""
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    return folders | {path.name for path in package.glob("*.py") if not path.stem.startswith("__")}


def test_the_architecture_lists_the_folders_that_there_are():
    listed = tables((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))
    assert set(listed["The folders of the core"]) == parts_of(ROOT / "core/src/optim_core")
    assert set(listed["The folders of the tools"]) == parts_of(ROOT / "tools/src/optim_tools")
    tracked = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    assert set(listed["The distributions"]) <= {f"{name}/" for name in tracked}


@pytest.mark.parametrize("package", ["core", "tools"])
def test_the_architecture_lists_folders_in_the_order_of_the_contract(package):
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [c["layers"] for c in contracts if c.get("containers") == [f"optim_{package}"]]
    below_first = [name for layer in reversed(layers) for name in layer.split(" | ")]
    listed = tables((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))[f"The folders of the {package}"]
    assert sorted(listed, key=lambda name: below_first.index(name.removesuffix("/").removesuffix(".py"))) == listed


def test_the_contract_of_the_tools_forbids_all_that_the_core_does_not_offer():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (forbidden,) = [c["forbidden_modules"] for c in contracts if c.get("source_modules") == ["optim_tools"]]
    offered = {"authoring", "for_tools", "integrations"}
    parts = {re.sub(r"/|\.py$", "", name) for name in parts_of(ROOT / "core/src/optim_core")}
    assert set(forbidden) == {f"optim_core.{name}" for name in parts - offered}


def test_each_folder_says_in_one_line_what_it_is_for():
    for path in (ROOT / "core/src/optim_core").glob("*/__init__.py"):
        if path.parent.name != "integrations":
            text = path.read_text(encoding="utf-8")
            assert re.fullmatch(r'""".+\."""\n', text), path
