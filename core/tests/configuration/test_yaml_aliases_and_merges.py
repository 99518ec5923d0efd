"""Aliases and merge keys of YAML: which value holds, and the line where it was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from core_support.configuration_files import Write, located, refusal
from optim_core.configuration.reading import read_configuration


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


def test_aliases_of_aliases_do_not_make_a_short_file_endless(tmp_path: Path) -> None:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    path = tmp_path / "config.yaml"
    path.write_text("\n".join([*lines, "model: {component_optims: {net: {type: adam}}}"]), encoding="utf-8")
    assert read_configuration(path).specs["net"].type == "adam"
