"""From the results of the conformance kit to what a factory claims."""

from __future__ import annotations

from optim_core.factories.claims import Claims
from optim_tools.scaffolding.factory_source import factory_source
from optim_tools.scaffolding.findings import Seen, findings_of, optimistic
from optim_tools.scaffolding.names import PluginNames
from optim_tools.scaffolding.wrapping import Findings, Wrapping

NAMES = PluginNames("optim-wrapped", "optim_wrapped", "wrapped", "Wrapped")


def passed(identifier: str, flag: str | None = None) -> Seen:
    return Seen(identifier, flag, passed=True, failed=False, seen="")


def failed(identifier: str, seen: str, flag: str | None = None) -> Seen:
    return Seen(identifier, flag, passed=False, failed=True, seen=seen)


def test_a_flag_is_claimed_unless_its_check_fails() -> None:
    results = [
        passed("construction-complex-parameters", "complex"),
        failed("construction-sparse-gradients", "RuntimeError", "sparse"),
        failed("tools-compile", "compiled anew", "compile"),
    ]

    found = findings_of(optimistic({"vectors": False}), results)

    assert found.flags == {"vectors": False, "complex": True, "compile": False}
    assert found.failures == {}
    assert found.passed == 1


def test_another_failure_is_expected_with_what_was_seen_of_it_on_any_machine() -> None:
    seen = "ValueError: <object at 0x7f31> (in Lion.step, /home/me/lion.py, line 3)"

    found = findings_of({}, [failed("state-pickle", seen)])

    assert found.failures == {"state-pickle": "ValueError: <object at >"}


def test_what_no_test_runner_survives_is_known() -> None:
    results = [
        failed("a", "it hangs, for more than 60 s"),
        failed("b", "it crashes Python (SIGSEGV)"),
        failed("c", "x"),
    ]

    assert findings_of({}, results).deadly == ("a", "b")


def test_claims_are_written_as_they_were_found() -> None:
    failures = {"state-pickle": "a text that goes on and on, " * 8, "state-deepcopy": 'it says "no"'}
    findings = Findings({"closure": False, "complex": True}, failures)
    wrapping = Wrapping("torch.optim", "SGD", "SGD.", (), findings=findings)

    source = factory_source(NAMES, wrapping)

    namespace: dict[str, object] = {"ClassVar": list, "Claims": Claims}
    lines = source.partition("    CLAIMS: ClassVar[Claims] = ")[2].partition("    # Params")[0]
    claims = eval(lines.strip(), namespace)
    assert claims == Claims(
        closure=False,
        complex=True,
        expected_failures={name: f"seen when this was generated: {seen}" for name, seen in failures.items()},
    )
    assert max(map(len, source.splitlines())) <= 120
