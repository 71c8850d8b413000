"""A ball that bounces in a ring over toy blocks and a drum, past a cone and a rolling ring. Everything stays rigid."""

import numpy as np
from scipy.spatial.transform import Rotation

from renderer.scene import Scene
from renderer.shapes import Array, Patch, assemble, disc, lathe, patch, rounded, spline

BALL = 0.27
GRAVITY = 9.8
BEAT = 0.6  # seconds from touch to touch

# where the ball touches down, one per beat: (x, height of the surface, z), and what it sets rocking
TOUCHES: tuple[tuple[tuple[float, float, float], str], ...] = (
    ((0.10, 0.00, 1.00), "cone"),
    ((0.85, 0.52, 0.35), "low block"),
    ((0.55, 1.14, -0.60), "high block"),
    ((-0.62, 0.86, -0.50), "drum"),
    ((-0.85, 0.00, 0.35), "cone"),
)
DURATION = BEAT * len(TOUCHES)

PLACES = {  # where each thing stands, and its turn around the vertical
    "low block": ((0.85, 0.0, 0.35), 0.5),
    "base block": ((0.55, 0.0, -0.60), -0.3),
    "high block": ((0.55, 0.60, -0.60), 0.35),
    "drum": ((-0.62, 0.0, -0.50), 0.0),
    "cone": ((0.0, 0.0, 0.15), 0.0),
}
RING = (0.27, 0.10)
ROLL = 0.32  # metres that the ring rolls to either side


def build() -> Scene:
    parts = {
        "ball": rounded((BALL, BALL, BALL), 14),
        "low block": _block(0.30, 0.26, 0.30),
        "base block": _block(0.36, 0.30, 0.36),
        "high block": _block(0.27, 0.27, 0.27),
        "drum": _turned(
            [(0.30, 0.0), (0.33, 0.03), (0.30, 0.12), (0.29, 0.43), (0.30, 0.74), (0.33, 0.83), (0.30, 0.86)]
        ),
        "cone": _turned(
            [(0.37, 0.0), (0.37, 0.04), (0.26, 0.09)],
            [(0.26, 0.09), (0.21, 0.27), (0.16, 0.45)],
            [(0.16, 0.45), (0.12, 0.58), (0.09, 0.70)],
            [(0.09, 0.70), (0.075, 0.74), (0.03, 0.77), (0.0, 0.775)],
        ),
        "ring": [_torus(*RING)],
    }
    assembled = [assemble(name, patches) for name, patches in parts.items()]

    def positions(time: float) -> list:
        poses = _poses(time)
        return [
            (rest @ poses[obj.name][0].as_matrix().T + poses[obj.name][1]).astype(np.float32) for obj, rest in assembled
        ]

    return Scene("bounce", tuple(obj for obj, _ in assembled), positions, DURATION, ground=0.0, azimuth=15.0)


def _block(x: float, y: float, z: float) -> list[Patch]:
    return [p.at(0, y, 0) for p in rounded((x, y, z), 12, exponent=9)]


def _turned(*bands: list[tuple[float, float]]) -> list[Patch]:
    """A turned solid of bands, bottom to top, each with its chart; flat bottom, flat top if it ends away from the axis."""
    top_radius, top = bands[-1][-1]
    caps = [disc(bands[0][0][0], 0.0, 8)]
    if top_radius > 0:
        caps.append(disc(top_radius, 0.0, 8).map(lambda points: points * [1, -1, -1]).at(0, top, 0))
    return [*caps, *[lathe(spline(band, 32 // len(bands)), 40) for band in bands]]


def _torus(radius: float, thickness: float) -> Patch:
    """A ring that stands in the plane z = 0."""
    around, across = np.meshgrid(np.linspace(-np.pi, np.pi, 65), np.linspace(-np.pi, np.pi, 25))
    r = radius + thickness * np.cos(across)
    return patch(np.stack([r * np.sin(around), -r * np.cos(around), thickness * np.sin(across)], axis=-1))


def _poses(time: float) -> dict[str, tuple[Rotation, Array]]:
    """Rotation and position of everything at this time."""
    poses = {"ball": (Rotation.from_rotvec([4 * np.pi * time / DURATION, 0, 0]), _ball(time))}
    for name, (place, turn) in PLACES.items():
        rock = sum(_jolt((time - i * BEAT) % DURATION) for i, (_, hit) in enumerate(TOUCHES) if hit == name)
        hop = np.array([0.0, 0.35 * abs(rock), 0.0])
        poses[name] = Rotation.from_euler("ZY", [rock, turn]), np.array(place) + hop
    rolled = ROLL * np.sin(2 * np.pi * time / DURATION)
    radius, thickness = RING
    poses["ring"] = (
        Rotation.from_euler("YZ", [0.25, -rolled / (radius + thickness)]),
        np.array([-0.70 + rolled * np.cos(0.25), radius + thickness, 1.05 - rolled * np.sin(0.25)]),
    )
    return poses


def _ball(time: float) -> Array:
    """Throws from touch to touch, each a parabola that lasts one beat."""
    beat = int(time / BEAT) % len(TOUCHES)
    share = time / BEAT % 1.0
    start, end = (np.array(TOUCHES[i % len(TOUCHES)][0]) for i in (beat, beat + 1))
    height = 0.5 * GRAVITY * BEAT**2 * share * (1 - share)
    return (1 - share) * start + share * end + [0.0, BALL + height, 0.0]


def _jolt(since: float) -> float:
    """Angle of something that was hit `since` seconds ago: it rocks and settles before the ball is round again."""
    return 0.10 * np.sin(15 * since) * np.exp(-5 * since) * np.clip(1 - since / DURATION, 0, 1)
