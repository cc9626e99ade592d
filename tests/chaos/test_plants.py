"""The faults of `make plant` still fit the source; a few of them are planted here, and found."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plant", ROOT / "scripts" / "plant.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["plant"] = module
    spec.loader.exec_module(module)
    return module


plant = _script()


def test_there_are_enough_of_them_and_no_two_are_alike() -> None:
    assert len(plant.PLANTS) >= 15
    assert len({each.name for each in plant.PLANTS}) == len(plant.PLANTS)
    assert len({(each.file, each.old, each.new) for each in plant.PLANTS}) == len(plant.PLANTS)


@pytest.mark.parametrize("each", plant.PLANTS, ids=lambda each: each.name)
def test_a_plant_still_applies_and_can_be_run(each: object) -> None:
    text = plant.planted(each, ROOT / "src")
    compile(text, each.file, "exec")  # type: ignore[attr-defined]


def test_a_plant_whose_text_is_gone_is_an_error() -> None:
    gone = plant.Plant("nothing", "core/orders.py", "this text stands nowhere", "")
    with pytest.raises(plant.DoesNotApply, match="0 times"):
        plant.planted(gone, ROOT / "src")


@pytest.mark.parametrize("name", ["trust the increment", "merge a stale snapshot"])
def test_a_planted_fault_is_found(name: str) -> None:
    (each,) = [each for each in plant.PLANTS if each.name == name]
    found = plant.find(each, jobs=1, schedules=50)
    assert found["caught_by"], found


def test_the_page_of_the_proof_names_every_plant() -> None:
    page = (ROOT / "docs" / "reference" / "proof.md").read_text(encoding="utf-8")
    assert not [each.name for each in plant.PLANTS if f"| {each.name} |" not in page]
