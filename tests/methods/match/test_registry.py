from __future__ import annotations

import pytest

from raycond.core.errors import UserError
from raycond.methods.match import registry
from raycond.methods.match.config import MatchConfig, NetworkTraining, SamplingConfig
from raycond.methods.match.distribution import DistributionMatching
from raycond.methods.match.gradient import GradientMatching


def test_methods_and_their_objectives() -> None:
    assert registry.names() == ("dc", "dsa", "dm", "idc")
    for name, kind in (("dc", GradientMatching), ("dm", DistributionMatching)):
        assert type(registry.objective(MatchConfig(method=name))) is kind


@pytest.mark.parametrize("name", ["dc", "dsa", "dm", "idc"])
def test_settings_of_every_method_are_valid(name: str) -> None:
    settings = dict(registry.method(name).settings)
    settings["sampling"] = SamplingConfig(**settings.get("sampling", {}))
    settings["training"] = NetworkTraining(**settings.get("training", {}))
    assert MatchConfig(method=name, **settings).method == name


@pytest.mark.parametrize(("name", "hint"), [("icd", "; did you mean idc?"), ("DSA", "; did you mean dsa?"), ("x", "")])
def test_unknown_methods_get_a_hint(name: str, hint: str) -> None:
    with pytest.raises(UserError) as error:
        registry.method(name)
    assert str(error.value) == f"--method {name}: not one of dc, dsa, dm, idc{hint}"
