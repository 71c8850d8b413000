"""A scene: objects with UVs, their motion, cameras from the file, a duration. Numpy only, so that errors come fast."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Object:
    """One thing in the scene, with its own UV atlas.

    faces: int32 [T, 3], indices into the object's vertices. corner_uv: float32 [T, 3, 2], the file's own UVs at the corners
    of each triangle, v up, or None. name: for messages and the manifest.
    """

    name: str
    faces: NDArray[np.int32]
    corner_uv: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class FileCamera:
    """A camera that the scene file brings. pose(time) -> camera-to-world float64 [4, 4] (looks along -Z, Y up)."""

    name: str
    fov_y: float  # radians
    pose: Callable[[float], NDArray[np.float64]]


@dataclass(frozen=True)
class Scene:
    """positions(time in seconds) -> world positions of each object, float32 [V_i, 3]; Y up, right-handed, heroes face +Z.

    Vertex counts and faces never change over time. duration: seconds of one cycle; 0 for a scene that does not move;
    times outside [0, duration] wrap around. ground: height of the ground plane that suits the scene, None if it floats.
    """

    name: str
    objects: tuple[Object, ...]
    positions: Callable[[float], list[NDArray[np.float32]]]
    duration: float
    ground: float | None
    cameras: tuple[FileCamera, ...] = ()
    notes: tuple[str, ...] = field(default=())  # what the person should hear, e.g. dropped degenerate triangles
    azimuth: float = 25.0  # degrees from the front, towards +X, where the scene is seen best

    def at(self, time: float) -> list[NDArray[np.float32]]:
        """World positions of each object at `time` seconds, wrapped into the cycle; float32 [V_i, 3] each."""
        return self.positions(time % self.duration if self.duration > 0 else 0.0)
