"""ROS 2 around :mod:`rt_panoptic_core`: messages in, core, messages out."""

from __future__ import annotations

from pkgutil import extend_path

# The generated messages (rt_panoptic_ros.msg, .srv) are built elsewhere, this source tree is on the
# path before them: both together are the package.
__path__ = extend_path(__path__, __name__)
