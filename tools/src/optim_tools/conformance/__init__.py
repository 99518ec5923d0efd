"""The conformance kit: one list of checks that every optimizer of a plugin has to pass.

`optim verify KEY` carries them out on an installed plugin; with pytest, a class in two lines does:

>>> from optim_tools.conformance import OptimizerConformance
>>> class TestLion(OptimizerConformance):
...     factory = "lion"
"""

from optim_core import Claims
from optim_tools.conformance.check import Check
from optim_tools.conformance.checks import CHECKS
from optim_tools.conformance.pytest_front_end import OptimizerConformance, conformance_checks
from optim_tools.conformance.subject import Subject
from optim_tools.conformance.verification import Outcome, Result, verify

__all__ = [
    "CHECKS",
    "Check",
    "Claims",
    "OptimizerConformance",
    "Outcome",
    "Result",
    "Subject",
    "conformance_checks",
    "verify",
]
