"""The pinhole intrinsics of a camera, as generated streets, bags and the image source have them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class CameraIntrinsics:
    """Pinhole intrinsics in pixels, without distortion; the centre of pixel (i, j) is (i, j).

    This is the convention of OpenCV and of ``sensor_msgs/CameraInfo``:
    u = fx X / Z + cx, v = fy Y / Z + cy with X right, Y down, Z forward.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """K, float64 [3, 3]."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def scaled(self, factor: int) -> CameraIntrinsics:
        """The same view with ``factor`` times as many pixels in each direction."""
        return CameraIntrinsics(
            self.width * factor,
            self.height * factor,
            self.fx * factor,
            self.fy * factor,
            (self.cx + 0.5) * factor - 0.5,
            (self.cy + 0.5) * factor - 0.5,
        )
