"""Reading configurations from mappings and files of every form, without changing or looking up anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from core_support.configuration_files import SPECS, Write
from optim_core.configuration.reading import read_configuration
from optim_core.configuration.specifications import ComponentSpec


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


def test_a_model_may_have_a_type_of_its_own_beside_its_components() -> None:
    whole = {"model": {"type": "vit", "component_optims": {"head": {"type": "sgd"}}}}
    assert {name: spec.type for name, spec in read_configuration(whole).specs.items()} == {"head": "sgd"}
