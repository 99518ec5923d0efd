"""Malformed components: each is reported with its line, and spoils no other."""

from __future__ import annotations

import pytest

from core_support.configuration_files import Write
from optim_core.configuration.reading import read_configuration
from optim_core.configuration.specifications import Configuration
from optim_core.errors import ConfigurationError


def problems_of(configuration: Configuration) -> list[tuple[str, int | None]]:
    return [(problem.path, problem.line) for problem in configuration.problems]


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


def test_problems_print_where_what_and_what_to_do(write: Write) -> None:
    path = write("net:\n  type: sgd\n  parms: {}\nhead:\n  typ: sgd\n")

    error = ConfigurationError(str(path), read_configuration(path).problems)

    assert str(error).splitlines() == [
        f"{path}: 3 problems",
        "  - line 3: net.parms: no such key. Did you mean 'params'?",
        "  - line 5: head.typ: no such key. Did you mean 'type'?",
        "  - line 4: head.type: required, but not given. It names the optimizer",
    ]
