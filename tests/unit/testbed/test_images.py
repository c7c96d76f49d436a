"""What an image is built from, and its reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.images import recipe
from testbed.images.recipe import Recipe
from testbed.state import CHECKOUT

IMAGE = Recipe("example", target="run", sources=("lock", "code"))


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all that `IMAGE` is built from."""
    (tmp_path / "code").mkdir()
    for file in ("Dockerfile", ".dockerignore", "lock", "code/flow.py"):
        (tmp_path / file).write_text(file)
    monkeypatch.setattr(recipe, "CHECKOUT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("changed", ["Dockerfile", ".dockerignore", "lock", "code/flow.py"])
def test_a_reference_changes_with_the_content_of_each_source(checkout: Path, changed: str) -> None:
    before = IMAGE.reference("base")
    (checkout / changed).write_text("another")
    assert IMAGE.reference("base") != before


def test_a_reference_changes_with_the_base(checkout: Path) -> None:
    assert IMAGE.reference("base") != IMAGE.reference("another base")


def test_a_reference_changes_when_a_source_is_renamed(checkout: Path) -> None:
    before = IMAGE.reference("base")
    (checkout / "code/flow.py").rename(checkout / "code/flows.py")
    assert IMAGE.reference("base") != before


def test_a_reference_does_not_change_with_files_that_no_target_copies(checkout: Path) -> None:
    before = IMAGE.reference("base")
    (checkout / "code/__pycache__").mkdir()
    (checkout / "code/__pycache__/flow.pyc").write_text("compiled")
    (checkout / "notes").write_text("of mine")
    assert IMAGE.reference("base") == before


def test_a_reference_changes_with_the_sources_of_the_image_that_it_starts_from(
    checkout: Path,
) -> None:
    (checkout / "Upper").write_text("FROM")
    upper = Recipe("upper", target="upper", file="Upper", base=IMAGE)
    before = upper.reference("base")
    assert upper.starts_from("base") == IMAGE.reference("base")
    (checkout / "lock").write_text("another")
    assert upper.reference("base") != before


def test_every_source_of_the_real_recipes_exists() -> None:
    recipes = (recipe.RUN, recipe.OPERATOR, recipe.ROOTFUL)
    sources = {name for each in recipes for name in (each.file, *each.sources)}
    assert [name for name in sorted(sources) if not (CHECKOUT / name).exists()] == []


@pytest.mark.parametrize("image", [recipe.RUN, recipe.OPERATOR], ids=lambda image: image.name)
def test_a_recipe_names_all_that_its_dockerfile_copies_from_the_checkout(image: Recipe) -> None:
    lines = (CHECKOUT / image.file).read_text().splitlines()
    copied = [
        line.split()[1:-1] for line in lines if line.startswith("COPY") and "--from" not in line
    ]
    assert {name for names in copied for name in names} == {*image.sources}
