"""Writes requirements/constraints.txt: one exact version of everything, for every supported Python.

For maintainers, when a requirement changes::

    python scripts/environment/lock.py python3.10 python3.11 python3.12 python3.13

asks each interpreter's pip what it would install from requirements/*.txt, and merges the answers.
Where interpreters differ, the lines carry markers. Builds of PyTorch for one kind of device are
written without that kind (2.13.0, not 2.13.0+cpu): the set-up chooses it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"
# Come with PyTorch's CUDA build, which names their exact versions itself.
LEFT_TO_PYTORCH = ("nvidia-", "cuda-", "triton")
# Hold what no requirement file says: newer ones belong to the next ROS 2, or were not tried.
PINS = ["torch==2.13.0", "ros-rosidl-runtime-c<4.7", "ros-rosidl-cmake<4.7", "ros-rcutils<6.8"]
PINS += ["ros-rmw<7.4", "numpy<2.5"]


def resolve(interpreter: str) -> tuple[str, dict[str, str]]:
    """Python version ("3.11") and what pip would install there: name -> version."""
    with tempfile.TemporaryDirectory() as folder:
        environment, report = Path(folder, "python"), Path(folder, "report.json")
        subprocess.run([interpreter, "-m", "venv", environment], check=True)
        pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--upgrade", "pip"], check=True)
        files = [f"--requirement={path}" for path in sorted(REQUIREMENTS.glob("*.txt"))]
        files.remove(f"--requirement={REQUIREMENTS / 'constraints.txt'}")
        subprocess.run([*pip, "--dry-run", f"--report={report}", *files, *PINS, "pip"], check=True)
        answer = json.loads(report.read_text())
    version = ".".join(answer["environment"]["python_full_version"].split(".")[:2])
    found = {}
    for item in answer["install"]:
        name = item["metadata"]["name"].lower().replace("_", "-")
        if not name.startswith(LEFT_TO_PYTORCH):
            found[name] = item["metadata"]["version"].partition("+")[0]
    return version, found


def main() -> int:
    by_python = dict(resolve(interpreter) for interpreter in sys.argv[1:])
    if not by_python:
        print(__doc__, file=sys.stderr)
        return 2
    pythons: dict[tuple[str, str], list[str]] = defaultdict(list)
    for python, packages in by_python.items():
        for name, version in packages.items():
            pythons[name, version].append(python)
    lines = ["# Written by scripts/environment/lock.py. What is installed, to the exact version."]
    for (name, version), holders in sorted(pythons.items()):
        line = f"{name}=={version}"
        if len(holders) < len(by_python):
            line += "; " + " or ".join(f'python_version == "{python}"' for python in holders)
        lines.append(line)
    (REQUIREMENTS / "constraints.txt").write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
