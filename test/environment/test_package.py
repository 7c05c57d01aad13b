"""The package as a library of other programs: what is in it, and what is imported with it."""

from __future__ import annotations

import ast
import builtins
import re
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import rt_panoptic_core

ROOT = Path(__file__).parents[2]

EXAMPLES = re.findall(
    r"^```python\n(.*?)^```",
    (ROOT / "docs" / "library.md").read_text("utf-8"),
    re.DOTALL | re.MULTILINE,
)

PROGRAM = """
import numpy as np
from rt_panoptic_core import PanopticResult, Segmenter, draw_overlay

with Segmenter.from_checkpoint(size=(64, 96)) as segmenter:
    result: PanopticResult = segmenter.segment(np.zeros((64, 96, 3), np.uint8))
    reveal_type(result.segments[0].score)
    reveal_type(draw_overlay(np.zeros((64, 96, 3), np.uint8), result, segmenter.taxonomy))
"""


def test_every_name_is_there_and_none_is_imported_before_it_is_used():
    for name in rt_panoptic_core.__all__:
        assert getattr(rt_panoptic_core, name) is not None
    words = (
        "import sys, rt_panoptic_core; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", words], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rt_panoptic_core.nothing  # noqa: B018


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_imports_what_it_names(example):
    names = [node for node in ast.walk(ast.parse(example)) if isinstance(node, ast.Name)]
    imported = [node for node in ast.walk(ast.parse(example)) if isinstance(node, ast.alias)]
    known = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    known |= {alias.asname or alias.name for alias in imported}
    used = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    assert used - known <= set(dir(builtins))


@pytest.mark.slow
def test_a_wheel_says_that_it_is_typed(tmp_path):
    pytest.importorskip("setuptools", "70.1", reason="older ones need another package for wheels")
    build = "from setuptools.build_meta import build_wheel; import sys; build_wheel(sys.argv[1])"
    # Built from a copy: a build leaves files beside the sources.
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    (source / "requirements").symlink_to(ROOT / "requirements")
    (source / "rt_panoptic_core").symlink_to(ROOT / "rt_panoptic_core")
    words = [sys.executable, "-c", build, str(tmp_path)]
    subprocess.run(words, check=True, cwd=source, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    assert "rt_panoptic_core/py.typed" in names
    assert "rt_panoptic_core/taxonomies/cityscapes.yaml" in names


@pytest.mark.parametrize(
    ("version", "command", "status"),
    [("59.6.0", "bdist_wheel", 1), ("59.6.0", "develop", 0), ("64.0", "bdist_wheel", 0)],
)
def test_a_setuptools_that_would_make_an_empty_wheel_is_refused(tmp_path, version, command, status):
    (tmp_path / "setuptools.py").write_text(
        f"__version__ = {version!r}\ndef setup(): print('made')\n", encoding="utf-8"
    )
    answer = subprocess.run(
        [sys.executable, ROOT / "setup.py", command],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == status, answer.stderr
    assert answer.stdout == ("" if status else "made\n")
    assert ("setuptools 59.6.0 makes no wheel" in answer.stderr) == bool(status)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed")
def test_the_types_reach_a_program_that_uses_it(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    # PyTorch's own types would take most of the time.
    settings = tmp_path / "mypy.ini"
    settings.write_text("[mypy]\nstrict = true\n[mypy-torch.*]\nfollow_imports = skip\n", "utf-8")
    words = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [*words, "--config-file", str(settings), str(program)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"MYPYPATH": "", "PATH": "", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r'Revealed type is "(builtins\.)?float"', done.stdout)
    assert "ndarray" in done.stdout
