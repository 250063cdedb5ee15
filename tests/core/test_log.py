"""The log file of a run."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from raycond.core.log import NAME, run_log

log = logging.getLogger("raycond.test")


def test_an_error_that_ends_the_run_is_logged_with_its_traceback(tmp_path: Path) -> None:
    def broken() -> None:
        with run_log(str(tmp_path)):
            log.info("begun")
            raise ZeroDivisionError("broken")

    with pytest.raises(ZeroDivisionError):
        broken()
    text = (tmp_path / NAME).read_text()
    assert "begun" in text
    assert "Traceback" in text
    assert "ZeroDivisionError: broken" in text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_under_the_log_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / NAME).symlink_to("/dev/full")
    with run_log(str(tmp_path)):
        log.info("begun")
    assert capsys.readouterr().err == ""
