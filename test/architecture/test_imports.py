"""Imports run one way: along the chain of the map of the house, never from the core to ROS, in no circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# From the ground up: what stands later may import what stands earlier.
CHAIN = ("taxonomy", "network", "inference", "checkpoint", "engines", "segmenter", "cli")
# Beside the chain: it may use the chain up to the segmenter, and only cli may use it.
BESIDE = ("datasets", "training", "evaluation", "visualization", "bags")
ROS = ("rclpy", "rt_panoptic_ros", "sensor_msgs", "std_msgs", "std_srvs", "vision_msgs", "launch")


def modules(root, package):
    """Module name -> syntax tree of every module of ``package`` below ``root``."""
    found = {}
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    assert found
    return found


def imported(tree, known):
    """Names of the modules that run when those of ``tree`` do, imports inside functions included.

    ``from package import name`` names the module ``package.name`` where ``known`` has it. What stands under
    ``if TYPE_CHECKING`` is left out: it never runs.
    """
    names = set()
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                names.add(inner if inner in known else str(node.module))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
        else:
            pending.extend(ast.iter_child_nodes(node))
    return names


def graph(root, package):
    """Module -> the modules that it imports, of ``package`` and of everything else."""
    trees = modules(root, package)
    return {name: imported(tree, trees) - {name} for name, tree in trees.items()}


def upward(imports, package):
    """``a -> b`` for every import that the map of the house forbids, in words."""
    wrong = []
    for name, targets in imports.items():
        room = name.split(".")[1] if "." in name else ""
        for target in sorted(targets):
            words = target.split(".")
            if words[0] != package or len(words) < 2:
                continue
            other = words[1]
            if room in CHAIN and other in CHAIN:
                bad = CHAIN.index(other) > CHAIN.index(room)
            elif room in CHAIN and other in BESIDE:
                bad = room != "cli"
            elif room in BESIDE:
                bad = other == "cli"
            else:
                bad = room not in (*CHAIN, *BESIDE, "__main__") and other in ("cli", *BESIDE)
            if bad:
                wrong.append(f"{name} -> {target}")
    return wrong


def circle(imports):
    """The modules of a circle of imports, in its order; empty where there is none."""
    inside = {name: targets & imports.keys() for name, targets in imports.items()}
    try:
        TopologicalSorter(inside).prepare()
    except CycleError as error:
        return error.args[1]
    return []


@pytest.fixture(scope="module")
def core():
    return graph(ROOT, "rt_panoptic_core")


def test_the_core_imports_along_the_chain(core):
    assert upward(core, "rt_panoptic_core") == []


def test_the_core_knows_no_ros(core):
    found = {
        f"{name} -> {target}"
        for name, targets in core.items()
        for target in targets
        if target.split(".")[0] in ROS
    }
    assert found == set()


@pytest.mark.parametrize("package", ["rt_panoptic_core", "rt_panoptic_ros"])
def test_no_circle(package):
    assert circle(graph(ROOT, package)) == []


@pytest.mark.parametrize(
    ("file", "text", "arrow"),
    [
        ("network/head.py", "from rt_panoptic_core.inference import boxes", "inference.boxes"),
        ("engines/base.py", "def f():\n    import rt_panoptic_core.segmenter", "segmenter"),
        ("inference/boxes.py", "from rt_panoptic_core.evaluation import matching", "evaluation"),
        ("bags/run.py", "from rt_panoptic_core.cli.main import main", "cli.main"),
        ("files.py", "from rt_panoptic_core.datasets import sample", "datasets"),
    ],
)
def test_an_import_against_the_map_is_found(tmp_path, file, text, arrow):
    package = tmp_path / "rt_panoptic_core"
    for name in ("__init__", "segmenter", "inference/boxes", "cli/main", "network/head"):
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (package / file).parent.mkdir(exist_ok=True)
    (package / file).write_text(text)
    name = f"rt_panoptic_core.{file.removesuffix('.py').replace('/', '.')}"
    found = upward(graph(tmp_path, "rt_panoptic_core"), "rt_panoptic_core")
    assert found == [f"{name} -> rt_panoptic_core.{arrow}"]


def test_a_circle_is_found_though_a_function_hides_it(tmp_path):
    package = tmp_path / "house"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "a.py").write_text("from house import b")
    (package / "b.py").write_text("def f():\n    from house.c import x")
    (package / "c.py").write_text("import house.a")
    assert set(circle(graph(tmp_path, "house"))) == {"house.a", "house.b", "house.c"}
    (package / "c.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import house.a"
    )
    assert circle(graph(tmp_path, "house")) == []
