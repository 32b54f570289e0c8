"""What `--help` of each command teaches."""

from __future__ import annotations

import re

import pytest
from django.core.management import load_command_class

COMMANDS = ("sse_publish", "sse_run", "sse_stop", "sse_tail", "sse_topics", "sse_trim")


@pytest.mark.parametrize("name", COMMANDS)
def test_it_says_what_the_command_does_and_shows_how_and_names_the_exit_codes(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as ended:
        load_command_class("django_agent_sse", name).run_from_argv(["manage.py", name, "--help"])
    assert ended.value.code in (0, None)
    told = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    about, _, rest = told.partition("\nexamples:\n")
    assert about.startswith(f"usage: manage.py {name}")
    assert len(re.findall(rf"^ .*manage\.py {name}\b", rest, re.MULTILINE)) >= 2, "to copy"
    examples, _, codes = rest.partition("\nexit codes:\n")
    assert examples
    assert name == "sse_run" or re.match(r" +0 ", codes), "but where it is the command's own"
    assert len(re.findall(r"^ +\d+ +\w", codes, re.MULTILINE)) >= 2
    assert max(map(len, told.splitlines())) <= 100
