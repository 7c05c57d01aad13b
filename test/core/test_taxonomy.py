"""Label sets from YAML: what comes back, and what is refused in words."""

from __future__ import annotations

import pytest
import yaml

from rt_panoptic_core.errors import TaxonomyError
from rt_panoptic_core.taxonomy import Taxonomy

# A few lines that stand for ten thousand million entries.
BOMB = (
    "\n".join(
        ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 11)]
    )
    + "\nname: bomb\nclasses: *a10\n"
)


@pytest.mark.parametrize("name", ["cityscapes", "coco", "camvid"])
def test_a_taxonomy_comes_back_from_its_own_yaml(name, tmp_path):
    taxonomy = Taxonomy.load(name)
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(taxonomy.to_dict(), allow_unicode=True), encoding="utf-8")
    assert Taxonomy.load(file) == taxonomy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "must hold a text 'name'"),
        ("classes: [{name: a, thing: true, 1: 2, foo: 3}]", "unknown key '1'"),
        ("classes: [{name: a, thing: true, color: [.inf, 0, 0]}]", r"colour \[inf, 0, 0\]"),
        ("classes: [{name: a, thing: true, color: [0, 0, 999]}]", "each 0 to 255"),
        ("classes: [{name: a, thing: true, source_id: .inf}]", "source_id inf"),
        ("classes: [{name: a, thing: true, source_id: 2.7}]", "source_id 2.7; .* a whole number"),
        ("classes: [{name: a, thing: true, source_id: true}]", "source_id True; .* whole number"),
        ("classes: [{name: a, thing: true, color: [1, 2, 3.5]}]", r"colour \[1, 2, 3.5\]"),
        ("classes: [{name: a, thing: 1}]", "'thing' must be true or false"),
        ('classes: [{name: "\\e[2J", thing: true}]', "cannot be printed"),
        ("classes: []", "0 classes"),
        ("d: 2001-99-99", "not a readable YAML file"),
        (f"n: {'9' * 5000}", "not a readable YAML file"),
        ("[" * 5000, "not a readable YAML file"),
        ("!!python/object/apply:os.getcwd []", "not a readable YAML file"),
    ],
)
def test_what_cannot_be_a_taxonomy_is_named(text, words, tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(TaxonomyError, match=rf"own\.yaml.*{words}") as caught:
        Taxonomy.load(file)
    assert len(str(caught.value)) < 2000


def test_a_class_id_that_there_is_not_is_explained():
    taxonomy = Taxonomy.load("camvid")
    with pytest.raises(IndexError, match="class id 255: taxonomy 'camvid' has 0 to 10, and 255 is"):
        taxonomy[255]
    assert len(list(taxonomy)) == 11
