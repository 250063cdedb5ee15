"""What is tried again, and what is not."""

from __future__ import annotations

import errno

import pytest

from raycond.core.errors import UserError
from raycond.core.retry import retrying


def tries(error: Exception) -> int:
    count = 0

    def action() -> None:
        nonlocal count
        count += 1
        raise error

    with pytest.raises(type(error)):
        retrying(action, attempts=3, first_wait=0)
    return count


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "x"), ConnectionResetError(), RuntimeError("503"), TimeoutError()]
)
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    assert tries(error) == 3


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(),
        PermissionError(),
        MemoryError(),
        UserError("x"),
        OSError(errno.ENOSPC, "x"),
        OSError(errno.ENAMETOOLONG, "x"),
        OSError(errno.EINVAL, "not a regular file"),
    ],
)
def test_what_will_not_change_is_not(error: Exception) -> None:
    assert tries(error) == 1


def test_the_result_is_passed_on() -> None:
    answers = iter([OSError(errno.EIO, "x"), 7])

    def action() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert retrying(action, first_wait=0) == 7
    with pytest.raises(ValueError, match="attempts"):
        retrying(action, attempts=0)
