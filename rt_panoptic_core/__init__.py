"""Real-time panoptic segmentation from dense detections (Hou et al., CVPR 2020), without ROS.

``Segmenter.from_checkpoint().segment(image)`` gives a :class:`PanopticResult`; everything else here
trains, measures, exports and explains what stands behind that call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rt_panoptic_core.inference.result import Detections, PanopticResult, Segment
    from rt_panoptic_core.segmenter import Segmenter
    from rt_panoptic_core.taxonomy import Taxonomy

__version__ = "0.1.0"

__all__ = ["Detections", "PanopticResult", "Segment", "Segmenter", "Taxonomy", "__version__"]

_HOMES = {
    "Detections": "rt_panoptic_core.inference.result",
    "PanopticResult": "rt_panoptic_core.inference.result",
    "Segment": "rt_panoptic_core.inference.result",
    "Segmenter": "rt_panoptic_core.segmenter",
    "Taxonomy": "rt_panoptic_core.taxonomy",
}


def __getattr__(name: str) -> Any:
    # Importing the package must not import PyTorch: the command line prints its help without it.
    if name not in _HOMES:
        raise AttributeError(f"module 'rt_panoptic_core' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
