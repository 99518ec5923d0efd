"""Reading configurations: every form of input, and every problem with its line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent
from types import MappingProxyType
from typing import Any

import pytest

from optim_core.configuration.reading import ComponentSpec, Configuration, read_configuration
from optim_core.errors import ConfigurationError, Problem

SPECS = {"backbone": {"type": "adamw", "params": {"lr": 0.1}}, "head": {"type": "sgd"}}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "config.yaml"
        path.write_bytes(content if isinstance(content, bytes) else dedent(content).encode())
        return path

    return write


Write = Callable[[str | bytes], Path]


def refusal(source: Mapping[Any, Any] | str | Path) -> Problem:
    """The one problem for which the whole configuration is refused."""
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(source)
    (problem,) = caught.value.problems
    return problem


def problems_of(configuration: Configuration) -> list[tuple[str, int | None]]:
    return [(problem.path, problem.line) for problem in configuration.problems]


@pytest.mark.parametrize(
    ("source", "prefix"),
    [
        (SPECS, ""),
        (MappingProxyType(SPECS), ""),
        ({"model": {"component_optims": SPECS}}, "model.component_optims."),
        ({"seed": 1, "model": {"name": "net", "component_optims": SPECS}}, "model.component_optims."),
    ],
    ids=["mapping", "any mapping", "whole configuration", "with other sections"],
)
def test_mappings_give_one_spec_for_each_component(source: Mapping[str, Any], prefix: str) -> None:
    configuration = read_configuration(source)

    assert configuration.source == "configuration"
    assert configuration.problems == ()
    assert configuration.specs == {
        "backbone": ComponentSpec("backbone", "adamw", {"lr": 0.1}, f"{prefix}backbone"),
        "head": ComponentSpec("head", "sgd", {}, f"{prefix}head"),
    }


@pytest.mark.parametrize("kind", [Path, str, os.fspath])
@pytest.mark.parametrize("indent", ["", "model:\n  component_optims:\n    "], ids=["bare", "whole"])
def test_files_give_the_same_by_any_kind_of_path(write: Write, kind: Callable[[Path], Any], indent: str) -> None:
    path = write(indent + "{backbone: {type: adamw, params: {lr: 0.1}}, head: {type: sgd}}")

    configuration = read_configuration(kind(path))

    assert configuration.source == str(path)
    assert {name: (spec.type, spec.params) for name, spec in configuration.specs.items()} == {
        "backbone": ("adamw", {"lr": 0.1}),
        "head": ("sgd", {}),
    }


def test_components_keep_their_order() -> None:
    names = ["zeta", "alpha", "mid"]

    assert list(read_configuration({name: {"type": "sgd"} for name in names}).specs) == names


def test_a_component_may_be_named_model() -> None:
    specs = read_configuration({"model": {"type": "sgd"}, "head": {"type": "sgd"}}).specs

    assert [(name, spec.path) for name, spec in specs.items()] == [("model", "model"), ("head", "head")]


@pytest.mark.parametrize("params", [None, {}])
def test_params_may_be_empty_or_left_out(params: object) -> None:
    configuration = read_configuration({"net": {"type": "sgd", "params": params}})

    assert configuration.problems == ()
    assert configuration.specs["net"].params == {}


def test_no_optimizer_is_looked_up() -> None:
    assert read_configuration({"net": {"type": "no such optimizer"}}).problems == ()


def test_the_configuration_is_not_changed() -> None:
    source: dict[str, Any] = {"net": {"type": "sgd", "params": {"lr": "1e-4", 3: 4}, "typo": 1}}
    before = repr(source)

    read_configuration(source)

    assert repr(source) == before


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "+1e-4", "1.0e-4", "1.e-4", ".1e-3"])
def test_a_number_with_an_exponent_is_a_number(write: Write, text: str) -> None:
    configuration = read_configuration(write(f"net: {{type: sgd, params: {{lr: {text}}}}}"))

    assert configuration.specs["net"].params["lr"] == 1e-4


@pytest.mark.parametrize("text", ["'1e-4'", "e-4", "1e", "v1e4", "1e4x"])
def test_other_text_stays_text(write: Write, text: str) -> None:
    configuration = read_configuration(write(f"net: {{type: sgd, params: {{name: {text}}}}}"))

    assert configuration.specs["net"].params["name"] == text.strip("'")


def test_a_byte_order_mark_is_no_part_of_the_first_key(write: Write) -> None:
    assert list(read_configuration(write(b"\xef\xbb\xbfnet: {type: sgd}")).specs) == ["net"]


def test_text_beyond_ascii_is_read_as_utf_8(write: Write) -> None:
    assert list(read_configuration(write("größe: {type: sgd}")).specs) == ["größe"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("# nothing but a comment\n", "is empty"),
        ("---\n", "is empty"),
        ("- backbone\n- head\n", "must be a mapping, not a list"),
        ("just text\n", "must be a mapping, not a string ('just text')"),
        ("3\n", "must be a mapping, not a number (3)"),
    ],
)
def test_a_document_that_is_no_mapping_is_refused(write: Write, content: str, message: str) -> None:
    problem = refusal(write(content))

    assert (problem.path, problem.message) == ("the document", message)


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ({}, "component_optims"),
        ({"model": {"component_optims": {}}}, "model.component_optims"),
        ({"model": {"component_optims": None}}, "model.component_optims"),
    ],
)
def test_an_empty_configuration_is_refused(source: Mapping[str, Any], path: str) -> None:
    problem = refusal(source)

    assert (problem.path, problem.message) == (path, "is empty")


def test_components_that_are_a_list_are_refused_with_their_line(write: Write) -> None:
    problem = refusal(write("model:\n  component_optims:\n    - adamw\n"))

    assert problem.path == "model.component_optims"
    assert problem.message == "must map components to optimizers, not be a list"
    assert problem.line == 2


@pytest.mark.parametrize(
    "misspelt", ["component_optim", "components_optims", "component_optimizers", "Component_Optims"]
)
def test_misspelt_component_optims_are_pointed_out(misspelt: str) -> None:
    problem = refusal({"model": {misspelt: SPECS}})

    assert (problem.path, problem.message) == ("model", "has no 'component_optims'")
    assert problem.hint is not None
    assert repr(misspelt) in problem.hint


@pytest.mark.parametrize("model", [None, {}, [], "net", {"name": "net"}])
def test_a_model_without_component_optims_is_refused(model: object) -> None:
    assert refusal({"model": model}).message == "has no 'component_optims'"


def test_a_mapping_of_something_else_is_refused() -> None:
    problem = refusal({"train": {"epochs": 3}, "data": {"path": "x"}})

    assert "has neither 'model.component_optims'" in problem.message
    assert problem.hint == "Write the components under model.component_optims"


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.yaml"

    with pytest.raises(ConfigurationError) as caught:
        read_configuration(path)

    assert caught.value.subject == str(path)
    assert "can't be read: No such file or directory" in str(caught.value)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "can't be read: Is a directory" in str(refusal(tmp_path))


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"net: {type: \xff}", "is not UTF-8 text (byte 12"),
        ("größe: {type: sgd}".encode("latin-1"), "is not UTF-8 text (byte 2"),
        ("net: {type: sgd}".encode("utf-16"), "is not UTF-8 text (byte 0"),
    ],
)
def test_a_file_that_is_not_utf_8_is_refused(write: Write, content: bytes, where: str) -> None:
    assert where in refusal(write(content)).message


@pytest.mark.parametrize("content", [b"\x00\x01\x02\x03", b"net: {type: \x07}", b"PK\x03\x04\x00"])
def test_a_binary_file_is_refused(write: Write, content: bytes) -> None:
    assert refusal(write(content)).path == "is no valid YAML"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("net: {type: sgd\nhead: {type: sgd}\n", 2),
        ("net:\n  type: sgd\n params: {}\n", 3),
        ("net: {type: sgd}\nhead: *unknown\n", 2),
        ("net: {type: sgd}\n---\nhead: {type: sgd}\n", 2),
        ("net: {type: sgd}\nhead: !!python/object:os.system {}\n", 2),
        ("net: {type: sgd}\n? {a: 1}\n: {type: sgd}\n", 2),
    ],
    ids=["unclosed", "indentation", "unknown anchor", "two documents", "unsafe tag", "mapping as key"],
)
def test_invalid_yaml_is_refused_with_its_line(write: Write, content: str, line: int) -> None:
    problem = refusal(write(content))

    assert (problem.path, problem.line) == ("is no valid YAML", line)


def test_a_date_that_does_not_exist_is_refused(write: Write) -> None:
    assert refusal(write("net: {type: sgd, params: {day: 2020-13-45}}")).path == "is no valid YAML"


def test_a_tab_as_indentation_is_pointed_out(write: Write) -> None:
    problem = refusal(write(b"net:\n\ttype: sgd\n"))

    assert problem.line == 2
    assert problem.hint == "YAML is indented with spaces, not tabs"


@pytest.mark.parametrize(
    ("content", "key", "first", "line"),
    [
        ("net: {type: sgd}\nhead: {type: sgd}\nnet: {type: adamw}\n", "net", 1, 3),
        ("net:\n  type: sgd\n  type: adamw\n", "type", 2, 3),
        ("net:\n  type: sgd\n  params:\n    lr: 1\n    'lr': 2\n", "lr", 4, 5),
        ("net:\n  type: sgd\n  params:\n    groups:\n      - lr: 1\n        lr: 2\n", "lr", 5, 6),
    ],
    ids=["component", "spec", "params", "within a list"],
)
def test_a_key_that_stands_twice_is_refused_with_both_lines(
    write: Write, content: str, key: str, first: int, line: int
) -> None:
    problem = refusal(write(content))

    assert problem.message == f"key {key!r} stands twice in one mapping (first on line {first})"
    assert problem.line == line


def test_every_malformed_component_is_reported_with_its_line(write: Write) -> None:
    path = write(
        """\
        model:
          name: net
          component_optims:
            listed: [adamw]
            empty:
            text: adamw
            untyped:
              params: {lr: 1}
            numbered:
              type: 3
            null_type:
              type:
            listed_params:
              type: sgd
              params: [1, 2]
            misspelt:
              type: sgd
              parms: {lr: 1}
              optimizer: 3
            good:
              type: sgd
        """
    )

    configuration = read_configuration(path)

    top = "model.component_optims"
    assert problems_of(configuration) == [
        (f"{top}.listed", 4),
        (f"{top}.empty", 5),
        (f"{top}.text", 6),
        (f"{top}.untyped.type", 7),
        (f"{top}.numbered.type", 10),
        (f"{top}.null_type.type", 12),
        (f"{top}.listed_params.params", 15),
        (f"{top}.misspelt.parms", 18),
        (f"{top}.misspelt.optimizer", 19),
    ]
    assert list(configuration.specs) == ["misspelt", "good"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ([1], "net: must be a mapping with 'type' and 'params', not a list"),
        ("adamw", "net: must be a mapping with 'type' and 'params', not a string ('adamw')"),
        (None, "net: must be a mapping with 'type' and 'params', not empty"),
        ({"params": {}}, "net.type: required, but not given. It names the optimizer"),
        ({"type": 3}, "net.type: must be an optimizer's name, not a number (3)"),
        ({"type": None}, "net.type: must be an optimizer's name, not empty"),
        ({"type": True}, "net.type: must be an optimizer's name, not true or false (True)"),
        ({"type": "sgd", "params": [1]}, "net.params: must map names to values, not be a list"),
        ({"type": "sgd", "params": "lr"}, "net.params: must map names to values, not be a string ('lr')"),
        ({"type": "sgd", "params": {3: 1}}, "net.params.3: an argument's name must be a string, not a number (3)"),
        ({"type": "sgd", "parms": {}}, "net.parms: no such key. Did you mean 'params'?"),
        ({"type": "sgd", "Params": {}}, "net.Params: no such key. Did you mean 'params'?"),
        (
            {"type": "sgd", "xyzzy": 1},
            "net.xyzzy: no such key. A component has 'type', and may have 'params' and 'param_groups'",
        ),
        ({"type": "sgd", 3: 1}, "net.3: no such key. A component has 'type', and may have 'params' and 'param_groups'"),
    ],
)
def test_a_malformed_component_says_what_is_wrong(spec: object, expected: str) -> None:
    configuration = read_configuration({"net": spec, "sound": {"type": "sgd"}})

    assert [str(problem) for problem in configuration.problems] == [expected]
    assert "sound" in configuration.specs


@pytest.mark.parametrize("name", [3, None, True, 1.5, ("a", "b")])
def test_a_components_name_must_be_a_string(name: object) -> None:
    configuration = read_configuration({name: {"type": "sgd"}, "sound": {"type": "sgd"}})  # type: ignore[dict-item]

    (problem,) = configuration.problems
    assert problem.path == str(name)
    assert problem.message.startswith("a component's name must be a string, not ")
    assert list(configuration.specs) == ["sound"]


def test_a_component_with_a_known_type_goes_on_to_have_its_params_checked() -> None:
    configuration = read_configuration({"net": {"type": "sgd", "params": {"lr": 1, 3: 2}, "typo": 1}})

    assert len(configuration.problems) == 2
    assert configuration.specs["net"].params == {"lr": 1}


def located(path: Path, component: str, argument: str) -> int | None:
    """The line of a problem with one argument of a component."""
    configuration = read_configuration(path)
    return configuration.locate(Problem(argument, "is wrong"), configuration.specs[component], "params").line


def test_a_later_problem_gets_its_whole_path_and_line(write: Write) -> None:
    path = write(
        """\
        model:
          component_optims:
            net:
              type: sgd
              params:
                lr: 1
                betas:
                  - 2
        """
    )
    configuration = read_configuration(path)

    problem = configuration.locate(Problem("betas[0]", "is wrong", "Mend it"), configuration.specs["net"], "params")

    assert problem == Problem("model.component_optims.net.params.betas[0]", "is wrong", "Mend it", 8)
    assert located(path, "net", "lr") == 6


def test_an_expression_in_double_quotes_is_told_to_go_into_single_ones(write: Write) -> None:
    path = write('net:\n  type: sgd\n  param_groups:\n    - {match: "^a\\.", weight_decay: 0}\n')

    with pytest.raises(ConfigurationError, match=r"line 4: .*unknown escape character '\.'.* in single quotes"):
        read_configuration(path)


def test_a_problem_with_what_is_not_there_gets_the_line_it_is_missing_from(write: Write) -> None:
    path = write("net:\n  type: sgd\n  params:\n    lr: 1\nhead:\n  type: sgd\n")

    assert located(path, "net", "missing") == 3
    assert located(path, "head", "missing") == 5


def test_a_problem_of_a_mapping_has_no_line() -> None:
    configuration = read_configuration({"net": {"type": "sgd"}})

    assert configuration.locate(Problem("type", "is wrong"), configuration.specs["net"]).line is None


def test_an_alias_has_the_lines_of_its_anchor(write: Write) -> None:
    path = write("one: &one\n  type: sgd\n  params:\n    lr: 1\ntwo: *one\n")

    assert located(path, "two", "lr") == 4


def test_a_merged_key_has_the_line_where_it_was_written(write: Write) -> None:
    path = write(
        """\
        defaults: &defaults
          lr: 1
          decay: 2
        net:
          type: sgd
          params:
            <<: *defaults
            lr: 3
        """
    )

    assert read_configuration(path).specs["net"].params == {"lr": 3, "decay": 2}
    assert (located(path, "net", "decay"), located(path, "net", "lr")) == (3, 8)


def test_of_several_merged_mappings_the_first_has_the_value_and_the_line(write: Write) -> None:
    path = write(
        """\
        first: &first {lr: 1}
        second: &second
          lr: 2
          decay: 2
        net:
          type: sgd
          params:
            <<: [*first, *second]
        """
    )

    assert read_configuration(path).specs["net"].params == {"lr": 1, "decay": 2}
    assert (located(path, "net", "lr"), located(path, "net", "decay")) == (1, 4)


def test_merges_of_merges_keep_the_order_of_precedence(write: Write) -> None:
    path = write(
        """\
        base: &base {lr: 1, decay: 1, momentum: 1}
        near: &near
          <<: *base
          decay: 2
        net:
          type: sgd
          params:
            <<: [*near, *base]
            momentum: 3
        """
    )

    assert read_configuration(path).specs["net"].params == {"lr": 1, "decay": 2, "momentum": 3}
    assert [located(path, "net", name) for name in ("lr", "decay", "momentum")] == [1, 4, 9]


def test_a_merged_key_is_another_than_the_text_of_its_name(write: Write) -> None:
    path = write("base: &base {1: a}\nnet:\n  type: sgd\n  params: {x: {<<: *base, '1': b}}\n")

    assert read_configuration(path).specs["net"].params == {"x": {1: "a", "1": "b"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("base: &base {lr: 1}\nnet: {<<: *base, type: sgd, <<: *base}\n", "key '<<' stands twice in one mapping"),
        ("base: &base [1]\nnet: {<<: *base, type: sgd}\n", "'<<' takes a mapping or a list of mappings"),
        ("base: &base {lr: 1}\nnet: {<<: [*base, 2], type: sgd}\n", "'<<' takes a mapping or a list of mappings"),
    ],
    ids=["twice", "no mapping", "no mapping in the list"],
)
def test_a_merge_that_means_nothing_is_refused(write: Write, content: str, message: str) -> None:
    problem = refusal(write(content))

    assert problem.message.startswith(message)
    assert problem.line in (1, 2)


def test_what_replaces_a_merged_mapping_has_none_of_its_lines(write: Write) -> None:
    path = write(
        """\
        base: &base
          type: sgd
          params:
            lr: 1
        net:
          <<: *base
          params:
            decay: 2
        """
    )

    assert read_configuration(path).specs["net"].params == {"decay": 2}
    assert located(path, "net", "lr") == 7


def test_a_key_that_overrides_a_merged_one_does_not_stand_twice(write: Write) -> None:
    path = write("base: &base {type: sgd}\nnet:\n  <<: *base\n  type: adamw\n")

    assert read_configuration(path).specs["net"].type == "adamw"


def test_a_mapping_that_contains_itself_does_not_hang(write: Write) -> None:
    path = write("net: &net\n  type: sgd\n  params: {self: *net}\n")

    assert read_configuration(path).specs["net"].type == "sgd"


def test_endless_nesting_is_refused(write: Write) -> None:
    depth = sys.getrecursionlimit()

    assert refusal(write("net: " + "[" * depth + "]" * depth)).message == "is nested too deeply"


def test_problems_print_where_what_and_what_to_do(write: Write) -> None:
    path = write("net:\n  type: sgd\n  parms: {}\nhead:\n  typ: sgd\n")

    error = ConfigurationError(str(path), read_configuration(path).problems)

    assert str(error).splitlines() == [
        f"{path}: 3 problems",
        "  - line 3: net.parms: no such key. Did you mean 'params'?",
        "  - line 5: head.typ: no such key. Did you mean 'type'?",
        "  - line 4: head.type: required, but not given. It names the optimizer",
    ]


def test_aliases_of_aliases_do_not_make_a_short_file_endless(tmp_path: Path) -> None:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    path = tmp_path / "config.yaml"
    path.write_text("\n".join([*lines, "model: {component_optims: {net: {type: adam}}}"]), encoding="utf-8")
    assert read_configuration(path).specs["net"].type == "adam"


def test_a_model_may_have_a_type_of_its_own_beside_its_components() -> None:
    whole = {"model": {"type": "vit", "component_optims": {"head": {"type": "sgd"}}}}
    assert {name: spec.type for name, spec in read_configuration(whole).specs.items()} == {"head": "sgd"}
