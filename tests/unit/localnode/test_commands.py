from __future__ import annotations

from pathlib import Path

import pytest

from localnode import commands, progress
from localnode.errors import SetupError


def test_the_error_of_a_command_has_its_last_line_of_output() -> None:
    with pytest.raises(SetupError, match=r"^sh -c echo first >&2; echo last >&2; .* failed: last$"):
        commands.run(["sh", "-c", "echo first >&2; echo last >&2; exit 3"])


def test_the_error_of_a_long_command_names_its_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "step.log"
    with pytest.raises(SetupError, match=rf"failed: gone wrong\n  log: {log}"):
        commands.run_logged(["sh", "-c", "echo gone wrong; exit 1"], log=log)


def test_the_error_for_a_missing_program_names_it() -> None:
    with pytest.raises(SetupError, match="no-such-program is not installed"):
        commands.run(["no-such-program"])
    assert not commands.succeeds_if_installed(["no-such-program"])


def test_input_reaches_a_command_as_text_or_as_a_file(tmp_path: Path) -> None:
    assert commands.run(["cat"], stdin="text") == "text"
    (tmp_path / "file").write_text("content")
    with (tmp_path / "file").open("rb") as file:
        assert commands.run(["cat"], stdin=file) == "content"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(3.21, "3.2 s"), (59.96, "1 min 00 s"), (125, "2 min 05 s")]
)
def test_a_duration_is_printed_in_minutes_and_seconds(seconds: float, shown: str) -> None:
    assert progress.duration(seconds) == shown


def test_a_step_prints_its_name_and_its_duration_so_far(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.01)
    with progress.step("building"):
        commands.run(["sleep", "0.1"])
    printed = capsys.readouterr().out
    assert printed.startswith("==> building\n")
    assert "building: still running after 0." in printed
    assert printed.splitlines()[-1].startswith("    building: 0.")
