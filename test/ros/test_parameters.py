"""The declarations, their documentation, and the parameter files."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rt_panoptic_ros.parameters import (
    BY_NAME,
    PARAMETERS,
    Change,
    documentation,
    refusal,
    unknown_overrides,
)

ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = {spec.name: spec.default for spec in PARAMETERS}


def test_the_documentation_is_made_from_the_declarations():
    written = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
    assert written == documentation(), (
        "run: python -m rt_panoptic_ros.parameters > docs/parameters.md"
    )


def test_every_parameter_is_named_once_and_described():
    assert len(BY_NAME) == len(PARAMETERS)
    for spec in PARAMETERS:
        assert spec.description.endswith((".", "`.")), spec.name
        assert f"| `{spec.name}` | {spec.type_name} |" in documentation()


@pytest.mark.parametrize("spec", PARAMETERS, ids=lambda spec: spec.name)
def test_defaults_are_allowed(spec):
    assert spec.refusal(spec.default) is None


def test_the_least_network_size_is_allowed():
    assert BY_NAME["network_size"].refusal("32x32") is None


def flat(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda p: p.name)
def test_parameter_files_hold_parameters_that_there_are(path):
    (values,) = yaml.safe_load(path.read_text(encoding="utf-8")).values()
    given = dict(flat(values["ros__parameters"]))
    assert not unknown_overrides(given)
    assert refusal(given, DEFAULTS, state=None) is None
    for name, value in given.items():
        assert type(value) is type(BY_NAME[name].default), name


@pytest.mark.parametrize(
    ("change", "state", "allowed"),
    [
        (Change.ANY_TIME, "active", True),
        (Change.INACTIVE, "active", False),
        (Change.INACTIVE, "inactive", True),
        (Change.UNCONFIGURED, "inactive", False),
        (Change.UNCONFIGURED, "unconfigured", True),
    ],
)
def test_when_a_parameter_may_change(change, state, allowed):
    new = {
        bool: lambda v: not v,
        int: lambda v: v + 1,
        float: lambda v: v / 2,
        str: lambda v: f"{v}x",
    }
    for spec in PARAMETERS:
        if spec.change is not change or spec.choices or spec.check:
            continue
        changes = {spec.name: new[type(spec.default)](spec.default)}
        assert (refusal(changes, DEFAULTS, state=state) is None) == allowed, spec.name


def test_setting_the_value_that_is_there_is_no_change():
    assert refusal({"engine": "auto"}, DEFAULTS, state="active") is None


def test_unknown_names_come_with_the_nearest():
    given = [
        "overlay.opacty",
        "qos_overrides./a.subscription.depth",
        "use_sim_time",
        "start_type_description_service",
        "zzz",
        "model",
    ]
    assert unknown_overrides(given) == [
        "there is no parameter overlay.opacty; did you mean overlay.opacity?",
        "there is no parameter zzz",
    ]
