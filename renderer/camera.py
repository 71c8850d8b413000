"""A pinhole camera, and the camera moves that frame a scene over a whole clip."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from renderer.config import CameraConfig
from renderer.errors import ConfigError, SceneError
from renderer.scene import Scene

MOVES = ("auto", "static", "orbit", "dolly", "follow", "file")
ELEVATION = 5.0  # degrees: high enough to show the ground, low enough for what stands behind the hero
MAX_ELEVATION = 89.0  # degrees; at the pole "up" has no direction
MIN_FOV, MAX_FOV = 1.0, 169.0  # degrees
MIN_FILL = 0.05
MAX_TURN = 36000.0  # degrees
DOLLY = 0.6  # a dolly starts this share further away than it ends
SMOOTHING = 0.5  # seconds over which a following camera smooths the hero's path
CLEARANCE = 0.02  # least height of the eye above the ground, as a share of the scene's extent
BISECTIONS = 40


@dataclass(frozen=True)
class Camera:
    """view: world-to-camera float64 [4, 4], OpenGL convention (looks along -Z, Y up). fov_y: vertical field of view, radians."""

    view: NDArray[np.float64]
    fov_y: float

    def focal(self, size: tuple[int, int]) -> float:
        """Focal length in pixels for a picture of size (width, height)."""
        return 0.5 * size[1] / np.tan(0.5 * self.fov_y)

    @property
    def position(self) -> NDArray[np.float64]:
        """The eye in world coordinates, [3]."""
        return -self.view[:3, :3].T @ self.view[:3, 3]

    def project(self, points: NDArray[np.floating], size: tuple[int, int]) -> tuple[NDArray, NDArray]:
        """World points [N, 3], or homogeneous [N, 4] (w = 0: a direction), to pixels.

        Returns xy [N, 2] (x right, y down, pixel centres at integer + 0.5) and z [N], the distance along the camera's axis
        (<= 0 is behind the camera; there xy means nothing).
        """
        homogeneous = points if points.shape[1] == 4 else np.concatenate([points, np.ones((len(points), 1))], axis=1)
        projected = homogeneous @ self.matrix(size).T
        depth = projected[:, 2]
        return projected[:, :2] / np.where(depth > 1e-9, depth, np.inf)[:, None], depth

    def matrix(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """Homogeneous world points to (x·z, y·z, z) in pixels of a picture of size (width, height), [3, 4]; see project."""
        focal, (width, height) = self.focal(size), size
        return np.array([[focal, 0, -0.5 * width], [0, -focal, -0.5 * height], [0, 0, -1]]) @ self.view[:3]

    def rays(
        self, size: tuple[int, int], rows: slice = slice(None), columns: slice = slice(None)
    ) -> NDArray[np.float64]:
        """Directions through the pixel centres, [height, width, 3], in world space, of length 1 along the camera's axis.

        rows, columns: the part of the picture that is wanted.
        """
        right, up, backward = self.view[:3, :3]
        x, y = self._grid(size)
        return x[:, columns, None] * right + (y[rows, :, None] * up - backward)

    def slopes(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """The rays' y alone, [height, width]: how steeply each looks up."""
        right, up, backward = self.view[:3, 1]
        x, y = self._grid(size)
        return x * right + (y * up - backward)

    def _grid(self, size: tuple[int, int]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Pixel centres in units of the focal length, x [1, width] to the right and y [height, 1] up."""
        width, height = size
        x, y = np.arange(width) + 0.5 - 0.5 * width, 0.5 * height - np.arange(height) - 0.5
        return x[None, :] / self.focal(size), y[:, None] / self.focal(size)


def check(config: CameraConfig) -> None:
    """Raise ConfigError, one line, for a setting that no camera can have."""
    if config.move not in MOVES:
        raise ConfigError(f"scene.camera.move={config.move}: unknown; choose one of {', '.join(MOVES)}")
    for name, value, low, high in (
        ("fov", config.fov, MIN_FOV, MAX_FOV),
        ("fill", config.fill, MIN_FILL, 1.0),
        ("elevation", config.elevation, -MAX_ELEVATION, MAX_ELEVATION),
        ("azimuth", config.azimuth, -MAX_TURN, MAX_TURN),
        ("turn", config.turn, -MAX_TURN, MAX_TURN),
    ):
        if value is not None and not low <= value <= high:  # also refuses nan
            raise ConfigError(f"scene.camera.{name}={value}: expected a number from {low:g} to {high:g}")


def camera_path(scene: Scene, config: CameraConfig, times: Sequence[float], size: tuple[int, int]) -> list[Camera]:
    """One camera per frame, such that the objects fill `config.fill` of the frame over the whole clip and are never cut.

    times: seconds of each frame; size: (width, height) in pixels. The ground and the dome do not count as objects.
    Raises ConfigError for settings that cannot work, SceneError where there is nothing to frame.
    """
    check(config)
    if config.move == "file":
        return _file_path(scene, times)
    phases = [round(time % scene.duration, 9) if scene.duration > 0 else 0.0 for time in times]
    known = {phase: _hull(np.concatenate(scene.at(phase))) for phase in set(phases)}  # a long clip repeats its cycle
    hulls = [known[phase] for phase in phases]
    low = np.min([hull.min(axis=0) for hull in hulls], axis=0)
    high = np.max([hull.max(axis=0) for hull in hulls], axis=0)
    if not np.linalg.norm(high - low) > 0:
        raise SceneError(f"scene '{scene.name}': all vertices lie in one point; there is nothing to look at")

    centres = np.array([0.5 * (hull.min(axis=0) + hull.max(axis=0)) for hull in hulls])
    move = config.move if config.move != "auto" else _suitable_move(scene, hulls, centres)
    pivots = _smooth(centres, phases) if move == "follow" else np.broadcast_to(0.5 * (low + high), centres.shape)

    phase = np.arange(len(times)) / len(times)
    turn = 0.0
    if move == "orbit":
        turn = config.turn if config.turn is not None else (360.0 if scene.duration == 0 else 90.0)
    azimuth = config.azimuth if config.azimuth is not None else scene.azimuth - (0.5 * turn if abs(turn) < 360 else 0.0)
    azimuths = np.radians(azimuth + turn * phase)
    pull_back = np.linspace(DOLLY, 0.0, len(times)) if move == "dolly" else np.zeros(len(times))

    fov_y = np.radians(config.fov)
    slopes = config.fill * np.tan(0.5 * fov_y) * np.array([size[0] / size[1], 1.0])

    def cameras(elevation: float) -> list[Camera]:
        rotations = [_rotation(azimuth, elevation) for azimuth in azimuths]
        seen = np.concatenate([(h - p) @ r.T for h, p, r in zip(hulls, pivots, rotations, strict=True)])
        eye = fit(seen, slopes)
        eyes = [p + (eye * (1, 1, 1 + back)) @ r for p, r, back in zip(pivots, rotations, pull_back, strict=True)]
        return [_look(r, e, fov_y) for r, e in zip(rotations, eyes, strict=True)]

    elevation = config.elevation if config.elevation is not None else ELEVATION
    floor = -np.inf if scene.ground is None else scene.ground + CLEARANCE * np.linalg.norm(high - low)
    if min(camera.position[1] for camera in cameras(np.radians(elevation))) < floor:  # rise just clear of the ground
        below, elevation = elevation, MAX_ELEVATION
        while elevation - below > 0.5:
            middle = 0.5 * (below + elevation)
            clear = min(camera.position[1] for camera in cameras(np.radians(middle))) >= floor
            below, elevation = (below, middle) if clear else (middle, elevation)
    return cameras(np.radians(elevation))


def fit(points: NDArray[np.floating], slopes: NDArray[np.floating]) -> NDArray[np.float64]:
    """The nearest eye from which all points lie inside a frustum; exact, no iteration over the distance.

    points: [N, 3] in axes parallel to the camera's (it looks along -Z); slopes: tangents of the frustum's half angles, in x
    and y. A point is inside where |p - eye| <= slope · (eye_z - p_z), so each side of the frustum is a plane that its
    extreme point supports, and two opposite sides meet at the eye. The looser axis is centred.
    """
    towards = points[:, 2:] * slopes  # [N, 2]
    upper = (points[:, :2] + towards).max(axis=0)
    lower = (points[:, :2] - towards).min(axis=0)
    distance = ((upper - lower) / (2 * slopes)).max()
    centre = np.empty(2)
    for axis in range(2):
        a, b = points[:, axis].min(), points[:, axis].max()
        depth = np.maximum(distance - points[:, 2], 1e-12 * (1 + abs(distance)))
        for _ in range(BISECTIONS):
            middle = 0.5 * (a + b)
            tangents = (points[:, axis] - middle) / depth
            a, b = (middle, b) if tangents.max() > -tangents.min() else (a, middle)
        centre[axis] = 0.5 * (a + b)
    return np.array([*centre, distance])


def _hull(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """The vertices of the convex hull: they alone decide what a picture of the points must hold. [N, 3] -> [H, 3]."""
    from scipy.spatial import ConvexHull, QhullError

    exact = points.astype(np.float64)
    try:
        return exact[ConvexHull(exact).vertices]
    except (QhullError, ValueError):  # flat or tiny: qhull wants four points that span space
        return exact


def _suitable_move(scene: Scene, hulls: list[NDArray], centres: NDArray[np.float64]) -> str:
    if scene.duration == 0:
        return "orbit"
    size = max(np.ptp(hull, axis=0).max() for hull in hulls)
    return "follow" if np.linalg.norm(centres - centres[0], axis=1).max() > size else "static"


def _smooth(path: NDArray[np.float64], phases: Sequence[float]) -> NDArray[np.float64]:
    """Gaussian mean over time, [F, 3]. phases: seconds within the cycle; where a new cycle begins the hero jumps, and so do we.

    The path goes on straight beyond its ends, so that a steady walk stays unchanged.
    """
    smoothed = []
    for run in np.split(np.arange(len(path)), np.flatnonzero(np.diff(phases) < 0) + 1):
        reach = len(run) - 1
        sigma = SMOOTHING * reach / max(phases[run[-1]] - phases[run[0]], 1e-9)  # frames
        reach = min(int(np.ceil(3 * sigma)), reach)
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-9)) ** 2)
        padded = np.pad(path[run], ((reach, reach), (0, 0)), mode="reflect", reflect_type="odd")
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(weights), axis=0)  # [frames, 3, window]
        smoothed.append(windows @ (weights / weights.sum()))
    return np.concatenate(smoothed)


def _rotation(azimuth: float, elevation: float) -> NDArray[np.float64]:
    """World to camera axes, [3, 3], for an eye at these angles (radians) that looks at the origin."""
    back = np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])
    right = np.array([np.cos(azimuth), 0.0, -np.sin(azimuth)])
    return np.stack([right, np.cross(back, right), back])


def _look(rotation: NDArray[np.float64], eye: NDArray[np.float64], fov_y: float) -> Camera:
    view = np.eye(4)
    view[:3, :3] = rotation
    view[:3, 3] = -rotation @ eye
    return Camera(view, fov_y)


def _file_path(scene: Scene, times: Sequence[float]) -> list[Camera]:
    if not scene.cameras:
        raise SceneError(
            f"scene '{scene.name}' brings no camera for scene.camera.move=file; choose auto, static, orbit, dolly or follow"
        )
    camera = scene.cameras[0]
    poses = [camera.pose(time % scene.duration if scene.duration > 0 else 0.0) for time in times]
    return [_look((pose[:3, :3] / np.linalg.norm(pose[:3, :3], axis=0)).T, pose[:3, 3], camera.fov_y) for pose in poses]
