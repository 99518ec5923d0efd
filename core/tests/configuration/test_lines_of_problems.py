"""Problems found after reading get the line where their argument stands."""

from __future__ import annotations

from core_support.configuration_files import Write, located
from optim_core.configuration.reading import read_configuration
from optim_core.errors import Problem


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


def test_a_problem_with_what_is_not_there_gets_the_line_it_is_missing_from(write: Write) -> None:
    path = write("net:\n  type: sgd\n  params:\n    lr: 1\nhead:\n  type: sgd\n")

    assert located(path, "net", "missing") == 3
    assert located(path, "head", "missing") == 5


def test_a_problem_of_a_mapping_has_no_line() -> None:
    configuration = read_configuration({"net": {"type": "sgd"}})

    assert configuration.locate(Problem("type", "is wrong"), configuration.specs["net"]).line is None
