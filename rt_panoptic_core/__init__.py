"""Real-time panoptic segmentation from dense detections (Hou et al., CVPR 2020), without ROS.

``Segmenter.from_checkpoint().segment(image)`` gives a :class:`PanopticResult`; everything else here
trains, measures, exports and explains what stands behind that call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rt_panoptic_core.engines.select import open_engine
    from rt_panoptic_core.errors import PanopticError
    from rt_panoptic_core.image_files import read_image
    from rt_panoptic_core.inference.result import Detections, PanopticResult, Segment
    from rt_panoptic_core.inference.tracking import InstanceTracker
    from rt_panoptic_core.panoptic_format import PanopticWriter
    from rt_panoptic_core.segmenter import Segmenter
    from rt_panoptic_core.taxonomy import Taxonomy
    from rt_panoptic_core.visualization.overlay import draw_overlay
    from rt_panoptic_core.visualization.video import VideoWriter

__version__ = "0.1.0"

__all__ = [
    "Detections",
    "InstanceTracker",
    "PanopticError",
    "PanopticResult",
    "PanopticWriter",
    "Segment",
    "Segmenter",
    "Taxonomy",
    "VideoWriter",
    "__version__",
    "draw_overlay",
    "open_engine",
    "read_image",
]

_HOMES = {
    "Detections": "rt_panoptic_core.inference.result",
    "InstanceTracker": "rt_panoptic_core.inference.tracking",
    "PanopticError": "rt_panoptic_core.errors",
    "PanopticResult": "rt_panoptic_core.inference.result",
    "PanopticWriter": "rt_panoptic_core.panoptic_format",
    "Segment": "rt_panoptic_core.inference.result",
    "Segmenter": "rt_panoptic_core.segmenter",
    "Taxonomy": "rt_panoptic_core.taxonomy",
    "VideoWriter": "rt_panoptic_core.visualization.video",
    "draw_overlay": "rt_panoptic_core.visualization.overlay",
    "open_engine": "rt_panoptic_core.engines.select",
    "read_image": "rt_panoptic_core.image_files",
}


def __getattr__(name: str) -> Any:
    # Importing the package must not import PyTorch: the command line prints its help without it.
    if name not in _HOMES:
        raise AttributeError(f"module 'rt_panoptic_core' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    # What is imported when it is asked for is there all the same: completion goes by this.
    return sorted({*globals(), *__all__})
