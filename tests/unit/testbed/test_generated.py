from __future__ import annotations

from pathlib import Path

import pytest

from testbed import generated


def test_an_outdated_generated_file_is_reported_and_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / "one.yaml", tmp_path / "other.yaml"]
    monkeypatch.setattr(generated, "files", lambda: dict.fromkeys(files, "new"))
    generated.write()
    assert generated.outdated() == []
    files[1].write_text("old")
    assert generated.outdated() == [files[1]]
