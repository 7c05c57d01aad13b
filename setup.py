"""For tools that look for a setup.py; everything is said in pyproject.toml."""

import sys

import setuptools

if "bdist_wheel" in sys.argv and int(setuptools.__version__.partition(".")[0]) < 64:
    # It does not read pyproject.toml, and would make an empty wheel called UNKNOWN without a word.
    sys.exit(
        f"rt-panoptic: setuptools {setuptools.__version__} makes no wheel of it, 64 or later does: "
        "pip install --upgrade setuptools, or build it isolated, as pip and `python -m build` do if let"
    )

setuptools.setup()
