"""A figure that dances: two steps to its right with an arm wave, then a full turn back to the left.

Time counts in half beats. Feet are placed first; legs follow by inverse kinematics, so planted feet cannot slide.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

from renderer.builtin.figure import FINGERTIPS, Figure, figure
from renderer.scene import Object, Scene
from renderer.shapes import Array

HALF_BEAT = 1 / 3  # seconds
HALF_BEATS = 8
DURATION = HALF_BEAT * HALF_BEATS

# each key: half beat, x, z and turn (degrees) of the ball of the foot; between unequal places it steps
LEFT_FOOT = (
    (0, 0.38, 0.00, 8),
    (1.0, 0.38, 0.00, 8),
    (1.85, 0.00, -0.02, 8),
    (3.0, 0.00, -0.02, 8),
    (3.75, -0.34, 0.03, 15),
    (4.0, -0.34, 0.03, 15),
    (4.85, 0.00, 0.00, 105),
    (6.0, 0.00, 0.00, 225),
    (6.9, 0.38, 0.00, 368),
    (8.0, 0.38, 0.00, 368),
)
RIGHT_FOOT = (
    (0, 0.12, 0.02, -10),
    (0.85, -0.25, 0.00, -8),
    (2.0, -0.25, 0.00, -8),
    (2.85, -0.60, 0.00, -8),
    (5.0, -0.60, 0.00, 80),
    (5.85, 0.26, 0.02, 200),
    (7.0, 0.26, 0.02, 340),
    (7.75, 0.12, 0.02, 350),
    (8.0, 0.12, 0.02, 350),
)

# one row per half beat
HIPS_X = (0.30, 0.00, -0.11, -0.42, -0.44, -0.10, 0.12, 0.31)
HIPS_Z = (0.00, 0.01, 0.00, 0.01, 0.00, 0.02, 0.03, 0.00)
HIPS_ROLL = (9, -8, 8, -9, -6, 5, -5, 6)  # degrees; positive lifts the left hip
HIPS_TWIST = (8, -10, 10, -10, 10, 0, 0, 0)
CHEST_ROLL = (-8, 7, -7, 8, 6, -4, 3, -5)
CHEST_TWIST = (-10, 10, -12, 8, -22, 8, 6, 0)
CHEST_PITCH = (0, 3, 0, 3, 4, 2, -6, -8)
HEAD_ROLL = (-8, 5, 8, 6, 8, 0, 0, -4)
# (elevation, degrees towards the front) of the upper arm, then of the forearm
LEFT_ARM = (
    ((35, 10), (75, 20)),
    ((10, 20), (-10, 30)),
    ((-40, 25), (0, 70)),
    ((0, 15), (15, 25)),
    ((15, 0), (20, 0)),
    ((-15, 60), (0, 140)),
    ((50, 40), (80, 60)),
    ((40, 0), (50, 0)),
)
RIGHT_ARM = (
    ((-40, 25), (0, 70)),
    ((15, 10), (35, 15)),
    ((40, 10), (80, 20)),
    ((5, 20), (-15, 30)),
    ((-10, 60), (0, 130)),
    ((-15, 60), (0, 140)),
    ((50, 40), (80, 60)),
    ((40, 0), (50, 0)),
)
HAND_LAG = 0.3  # half beats that the hands trail behind the forearms


def build() -> Scene:
    body = figure()

    def positions(time: float) -> list[NDArray[np.float32]]:
        return [body.skin(*pose(body, time / HALF_BEAT))]

    return Scene("dancer", (Object("dancer", body.faces),), positions, DURATION, ground=0.0, azimuth=20.0)


def _track(values: Sequence) -> CubicSpline:
    """A smooth periodic curve through one key per half beat."""
    keys = np.array([*values, values[0]], float)
    return CubicSpline(np.arange(HALF_BEATS + 1), keys, bc_type="periodic")


def _directions(keys: Sequence, side: float) -> CubicSpline:
    """Unit vectors in the chest's frame, [2, 3] per key: upper arm and forearm."""
    elevation, front = np.moveaxis(np.radians(np.array(keys, float)), -1, 0)
    x = side * np.cos(elevation) * np.cos(front)
    return _track(np.stack([x, np.sin(elevation), np.cos(elevation) * np.sin(front)], axis=-1))


TRACKS = {
    "hips": _track(np.stack([HIPS_X, HIPS_Z, HIPS_ROLL, HIPS_TWIST], axis=-1)),
    "chest": _track(np.stack([CHEST_ROLL, CHEST_TWIST, CHEST_PITCH, HEAD_ROLL], axis=-1)),
    "L": _directions(LEFT_ARM, 1.0),
    "R": _directions(RIGHT_ARM, -1.0),
}


def _smoothstep(x: float) -> float:
    x = min(max(x, 0.0), 1.0)
    return x * x * (3 - 2 * x)


def _euler(yaw: float, roll: float = 0.0, pitch: float = 0.0) -> Array:
    return Rotation.from_euler("YZX", [yaw, roll, pitch], degrees=True).as_matrix()


def pose(body: Figure, beat: float) -> tuple[dict[str, Array], dict[str, Array]]:
    """Rotation and place of every bone at `beat` half beats."""
    beat = beat % HALF_BEATS
    rest = body.joints
    x, z, roll, twist = TRACKS["hips"](beat)
    chest_roll, chest_twist, chest_pitch, head_roll = TRACKS["chest"](beat)
    turn = _smoothstep((beat - 3.9) / 3.6)
    yaw = 360 * turn
    gaze = 360 * turn**2 / (turn**2 + (1 - turn) ** 2)  # dancers hold their gaze, then whip the head round
    bounce = 0.022 * np.cos(2 * np.pi * (beat - 0.05))

    rotations = {
        "hips": _euler(yaw + twist, roll),
        "waist": _euler(yaw + 0.5 * (twist + chest_twist), 0.5 * (roll + chest_roll), 0.5 * chest_pitch),
        "chest": _euler(yaw + chest_twist, chest_roll, chest_pitch),
        "neck": _euler(0.5 * (yaw + chest_twist + gaze), 0.5 * (chest_roll + head_roll), 0.5 * chest_pitch),
        "head": _euler(gaze, head_roll),
    }
    places = {"hips": np.array([x, rest["hips"][1] - 0.055 - bounce, z])}

    def attach(bone: str, parent: str) -> None:
        places[bone] = places[parent] + rotations[parent] @ (rest[bone] - rest[parent])

    for bone, parent in (("waist", "hips"), ("chest", "waist"), ("neck", "chest"), ("head", "neck")):
        attach(bone, parent)
    for side in "LR":
        collar, arm, elbow, wrist = (f"{name}.{side}" for name in ("collar", "arm", "elbow", "wrist"))
        upper, fore = (d / np.linalg.norm(d) for d in TRACKS[side](beat))
        trailing = TRACKS[side](beat - HAND_LAG)[1]
        attach(collar, "chest")
        lift = 22 * max(upper[1] + 0.3, 0.0) * (1 if side == "L" else -1)
        rotations[collar] = rotations["chest"] @ _euler(0, lift)
        attach(arm, collar)
        tips = np.array(FINGERTIPS) * [1 if side == "L" else -1, 1, 1]
        rotations[arm] = _align(rotations["chest"], rest[elbow] - rest[arm], rotations["chest"] @ upper)
        attach(elbow, arm)
        rotations[elbow] = _align(rotations[arm], rest[wrist] - rest[elbow], rotations["chest"] @ fore)
        attach(wrist, elbow)
        rotations[wrist] = _align(rotations[elbow], tips - rest[wrist], rotations["chest"] @ trailing)
        _leg(side, beat, rest, rotations, places)
    return rotations, places


def _align(parent: Array, rest: Array, direction: Array) -> Array:
    """The parent's rotation, and on top of it the shortest one that takes the bone from rest to a direction."""
    a, b = parent @ rest / np.linalg.norm(rest), direction / np.linalg.norm(direction)
    axis, cosine = np.cross(a, b), a @ b
    k = np.cross(np.eye(3), axis)
    return (np.eye(3) + k + k @ k / (1 + cosine + 1e-9)) @ parent


def _foot(keys: Sequence, beat: float) -> tuple[Array, float, float]:
    """Ball of the foot [3] above where it rests, turn in degrees, and how far through a step it is (0 while planted)."""
    i = max(j for j, key in enumerate(keys[:-1]) if key[0] <= beat)
    (start, x0, z0, turn0), (end, x1, z1, turn1) = keys[i], keys[i + 1]
    share = (beat - start) / (end - start)
    eased = _smoothstep(share)
    stepping = np.hypot(x1 - x0, z1 - z0) > 1e-6
    lift = 0.10 * np.sin(np.pi * share) ** 2 if stepping else 0.0
    place = np.array([x0 + (x1 - x0) * eased, lift, z0 + (z1 - z0) * eased])
    return place, turn0 + (turn1 - turn0) * eased, share if stepping else 0.0


def _leg(side: str, beat: float, rest: dict[str, Array], rotations: dict[str, Array], places: dict[str, Array]) -> None:
    thigh, knee, ankle, ball = (f"{name}.{side}" for name in ("thigh", "knee", "ankle", "ball"))
    place, turn, step = _foot(LEFT_FOOT if side == "L" else RIGHT_FOOT, beat)
    pitch = 35 * np.sin(np.pi * step) ** 2
    places[ball] = place + [0.0, rest[ball][1], 0.0]
    rotations[ball] = _euler(turn, 0, 0.4 * pitch)
    rotations[ankle] = _euler(turn, 0, pitch)
    places[ankle] = places[ball] + rotations[ankle] @ (rest[ankle] - rest[ball])

    places[thigh] = places["hips"] + rotations["hips"] @ (rest[thigh] - rest["hips"])
    upper, lower = np.linalg.norm(rest[knee] - rest[thigh]), np.linalg.norm(rest[ankle] - rest[knee])
    reach = places[ankle] - places[thigh]
    length = min(np.linalg.norm(reach), 0.999 * (upper + lower))
    down = reach / np.linalg.norm(reach)
    front = rotations["hips"][:, 2] + rotations[ankle][:, 2]
    front -= (front @ down) * down
    front /= np.linalg.norm(front)
    along = (upper**2 - lower**2 + length**2) / (2 * length)
    places[knee] = places[thigh] + along * down + np.sqrt(max(upper**2 - along**2, 0.0)) * front
    for bone, below in ((thigh, knee), (knee, ankle)):
        rotations[bone] = _frame(places[below] - places[bone], front) @ _frame(rest[below] - rest[bone], np.eye(3)[2]).T


def _frame(down: Array, front: Array) -> Array:
    """Orthonormal axes whose second one points against `down` and whose third one is as near to `front` as it can be."""
    y = -down / np.linalg.norm(down)
    x = np.cross(y, front)
    x /= np.linalg.norm(x)
    return np.stack([x, y, np.cross(x, y)], axis=-1)
