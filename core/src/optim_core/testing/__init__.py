"""The conformance kit: one list of checks that every optimizer of a plugin has to pass.

`optim verify KEY` carries them out on an installed plugin; with pytest, a class in two lines does:

>>> from optim_core.testing import OptimizerConformance
>>> class TestLion(OptimizerConformance):
...     factory = "lion"
"""

from optim_core.claims import Claims
from optim_core.testing.check import Check
from optim_core.testing.checks import CHECKS
from optim_core.testing.pytest_front_end import OptimizerConformance, conformance_checks
from optim_core.testing.subject import Subject
from optim_core.testing.verification import Outcome, Result, verify

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
