"""The command as a whole: help, mistakes in calling it, exit statuses, where its output goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from optim_core import __version__
from optim_tools.command.application import optim as group
from optim_tools.command.failures import Command

Run = Callable[..., subprocess.CompletedProcess[str]]
COMMANDS = ["list", "show", "check", "plot", "schema", "new", "verify", "doctor", "completion"]
# What a command imports, asked in the process that has run it.
IMPORTED = """
import sys
from optim_tools.command import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code, ended.code
print(sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "numpy", "pydantic", "matplotlib", "plugin"}))
"""


def test_the_module_does_what_the_command_does(optim: Run) -> None:
    for arguments in (["--help"], ["list"], ["--version"], ["show", "nobody"]):
        script, module = optim(*arguments), optim(*arguments, module=True)
        assert (module.returncode, module.stdout, module.stderr) == (script.returncode, script.stdout, script.stderr)


def test_help_names_every_command(optim: Run) -> None:
    result = optim("--help")
    assert result.returncode == 0
    assert [line.split()[0] for line in result.stdout.partition("Commands:\n")[2].splitlines()] == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself_and_every_option(optim: Run, name: str) -> None:
    result = optim(name, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    for parameter in group.commands[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help
            assert max(parameter.opts, key=len) in result.stdout
    assert "--traceback" in result.stdout


def test_each_command_that_reports_can_print_json() -> None:
    for name in COMMANDS:
        options = {option for parameter in group.commands[name].params for option in parameter.opts}
        assert isinstance(group.commands[name], Command)
        # A script for a shell is no report.
        assert ("--json" in options) is (name != "completion")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["list"], ["list", "--json"], ["show", "--help"], ["verify", "--help"], ["completion", "bash"]],
)
def test_the_quick_answers_import_neither_torch_nor_a_plugin(
    distribution: Callable[..., Path], folder: Path, arguments: list[str]
) -> None:
    distribution("optim-plugin", factories={"some.key": "plugin:Factory"}, modules={"plugin": "raise SystemExit(3)"})
    command = [sys.executable, "-c", IMPORTED, *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert result.stdout.splitlines()[-1:] == ["[]"], result.stdout + result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["lst"], "there is no command 'lst'. Did you mean 'list'?"),
        (["qqqqq"], "there is no command 'qqqqq'. Commands: "),
        (["list", "--lod"], "--load"),
        (["show"], "Missing argument 'KEY'"),
        (["list", "--timeout", "0"], "--timeout"),
        (["list", "--timeout", "soon"], "--timeout"),
        (["show", "one", "two"], "unexpected extra argument"),
        (["completion", "tcsh"], "'bash', 'zsh', 'fish'"),
        (["show", "one", "--json", "--yaml"], "--yaml and --json exclude each other"),
    ],
)
def test_wrong_usage_is_one_line_first_and_status_2(optim: Run, arguments: list[str], says: str) -> None:
    result = optim(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    first, *rest = result.stderr.splitlines()
    assert first.startswith("optim: error: ")
    assert says in first
    assert rest[0].startswith("Usage: optim")


def test_without_a_command_it_explains_itself(optim: Run) -> None:
    result = optim()
    assert result.returncode == 2
    assert "optim list" in result.stderr


BROKEN = {"plugin": "import json\njson.loads('{')"}


def test_a_failure_is_one_line_and_the_traceback_comes_when_asked_for(
    distribution: Callable[..., Path], optim: Run
) -> None:
    distribution("optim-plugin", factories={"some.key": "plugin:Factory"}, modules=BROKEN)
    result = optim("show", "some.key")
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("optim: error: the factory of 'some.key' (plugin:Factory, from optim-plugin 1.0)")
    assert "JSONDecodeError" in line

    asked = optim("show", "some.key", "--traceback")
    assert (asked.returncode, asked.stderr.splitlines()[0]) == (1, line)
    assert "Traceback (most recent call last)" in asked.stderr
    assert "json.loads('{')" in asked.stderr


def test_a_fault_of_the_command_itself_is_a_line_too(optim: Run, distribution: Callable[..., Path]) -> None:
    # The first thing that `list` asks of an entry's distribution.
    distribution("optim-plugin", modules={"sitecustomize": FAULT})
    result = optim("list")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "optim: error: unexpected failure: RuntimeError: of two lines",
        "Run it again with --traceback to see where",
    ]
    assert "Traceback" in optim("list", "--traceback").stderr


FAULT = """
import optim_core.discovery.factory_entry
def fail(group):
    raise RuntimeError("of\\ntwo lines")
optim_core.discovery.factory_entry.find_entries = fail
"""


def test_what_a_plugin_prints_is_no_part_of_the_output(distribution: Callable[..., Path], optim: Run) -> None:
    source = """
        import warnings
        print("hello from the plugin")
        warnings.warn("of some age", DeprecationWarning, stacklevel=1)
        class Factory:
            "Greets."
            def build(self, params): ...
    """
    distribution("optim-plugin", factories={"some.key": "plugin:Factory"}, modules={"plugin": source})
    result = optim("show", "some.key", "--json", PYTHONWARNINGS="default")
    assert result.stdout.startswith("{")
    assert "hello" not in result.stdout
    assert result.stderr.splitlines() == ["hello from the plugin", "optim: warning: DeprecationWarning: of some age"]


def test_what_a_plugin_s_own_processes_print_is_none_either(distribution: Callable[..., Path], optim: Run) -> None:
    source = """
        import os
        os.system("echo from elsewhere")
        class Factory:
            def build(self, params): ...
    """
    distribution("optim-plugin", factories={"some.key": "plugin:Factory"}, modules={"plugin": source})
    result = optim("show", "some.key", "--json")
    assert (result.stdout[0], result.stderr) == ("{", "from elsewhere\n")


@pytest.mark.parametrize(
    ("redirection", "says"),
    [("> /dev/full", "No space left on device"), (">&-", "standard output is closed")],
)
def test_output_that_can_t_be_written_is_one_clear_line(
    folder: Path, script: Path, redirection: str, says: str
) -> None:
    if redirection == "> /dev/full" and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full on this system")
    command = ["bash", "-c", f"'{script}' list {redirection}"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line == f"optim: error: the output can't be written: {says}"


def test_a_strange_name_can_t_steer_the_terminal(optim: Run) -> None:
    result = optim("show", "\x1b[31mred")
    assert result.returncode == 2
    assert "\x1b" not in result.stderr
    assert "\\x1b[31mred" in result.stderr


def test_whoever_waits_for_a_plugin_is_told(
    distribution: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    source = "import time\ntime.sleep(0.5)\nclass Factory:\n    def build(self, params): ..."
    distribution("optim-plugin", factories={"slow": "plugin:Factory"}, modules={"plugin": source})
    monkeypatch.setattr("optim_tools.command.plugins._PATIENCE", 0.1)
    with pytest.raises(SystemExit):
        group.main(["show", "slow", "--yaml"], "optim")
    assert capfd.readouterr().err.startswith(
        "optim: still importing the plugin of 'slow' after 0.1 s; Ctrl-C ends this"
    )


def test_a_pipe_that_closes_early_is_no_failure_to_speak_of(
    distribution: Callable[..., Path], folder: Path, script: Path
) -> None:
    many = {f"key-{number}": "plugin:Factory" for number in range(3000)}
    distribution("optim-plugin", factories=many)
    command = f"'{script}' list --json | head -n 1; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (result.stdout, result.stderr) == ("[\n", "")
    assert result.returncode == 141


def test_an_interruption_ends_it_at_once(distribution: Callable[..., Path], folder: Path, script: Path) -> None:
    slow = {"plugin": "import sys, time\nsys.stderr.write('asleep')\nsys.stderr.flush()\ntime.sleep(60)"}
    distribution("optim-plugin", factories={"some.key": "plugin:Factory"}, modules=slow)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [str(script), "show", "some.key"]
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.read(6) == "asleep"
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stderr.read().strip() == "optim: error: interrupted"
        assert process.wait(30) == 130
    assert time.monotonic() - started < 20


def test_the_script_for_each_shell_is_printed(optim: Run) -> None:
    for shell in ("bash", "zsh", "fish"):
        result = optim("completion", shell)
        assert (result.returncode, result.stderr) == (0, "")
        assert "_OPTIM_COMPLETE" in result.stdout


def complete(optim: Run, *words: str) -> list[str]:
    result = optim(_OPTIM_COMPLETE="bash_complete", COMP_WORDS=" ".join(words), COMP_CWORD=str(len(words) - 1))
    assert result.stderr == ""
    return result.stdout.splitlines()


def test_commands_and_keys_are_completed_without_importing_a_plugin(
    distribution: Callable[..., Path], optim: Run
) -> None:
    keys = {"zz.first": "plugin:Factory", "zz.second": "plugin:Factory"}
    distribution("optim-plugin", factories=keys, modules={"plugin": "raise SystemExit(3)"})
    assert complete(optim, "optim", "sh") == ["plain,show"]
    assert complete(optim, "optim", "show", "zz.") == ["plain,zz.first", "plain,zz.second"]
    assert complete(optim, "optim", "schema", "zz.s") == ["plain,zz.second"]
    assert complete(optim, "optim", "check", "c") == ["file,c"]
    assert complete(optim, "optim", "plot", "zz.f") == ["file,zz.f", "plain,zz.first"]
    assert complete(optim, "optim", "list", "--lo") == ["plain,--load"]


def test_bash_itself_completes_keys(distribution: Callable[..., Path], folder: Path, script: Path) -> None:
    distribution("optim-plugin", factories={"zz.first": "plugin:Factory"})
    commands = f"""
        export PATH="{script.parent}:$PATH"
        eval "$(optim completion bash)"
        COMP_WORDS=(optim show zz.) COMP_CWORD=2
        _optim_completion optim
        echo "${{COMPREPLY[@]}}"
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = ["bash", "--norc", "-ic", commands]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "zz.first", result.stderr


def test_the_version_is_the_core_s(optim: Run) -> None:
    assert optim("--version").stdout == f"optim-core {__version__}\n"
