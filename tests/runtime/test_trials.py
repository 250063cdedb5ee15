from __future__ import annotations

import pytest

from raycond.core.errors import RaycondError, UserError
from raycond.runtime.trials import Request, details, reason


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (Request(), {"CPU": 1}),
        (Request(0), {"CPU": 0}),
        (Request(2, 0.25), {"CPU": 2, "GPU": 0.25}),
        (Request(1, memory=2**30), {"CPU": 1, "memory": 2**30}),
    ],
)
def test_a_request_names_only_what_it_asks_for(request_: Request, named: dict[str, float]) -> None:
    assert request_.to_dict() == named


def test_reasons_are_messages_of_ours_and_types_of_others() -> None:
    assert reason(UserError("give --val")) == "give --val"
    assert reason(RaycondError("the loss is nan")) == "the loss is nan"
    assert reason(KeyError("x")) == "KeyError('x')"


def test_a_traceback_is_kept_of_what_nobody_foresaw() -> None:
    assert details(UserError("give --val")) == ""
    try:
        raise ZeroDivisionError("broken")
    except ZeroDivisionError as error:
        text = details(error)
    assert text.startswith("Traceback")
    assert text.endswith("ZeroDivisionError: broken")
    assert "test_trials.py" in text
