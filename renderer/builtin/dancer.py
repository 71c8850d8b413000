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

# each key: half beat; x, z and turn (degrees) of the ball of the foot. Between unequal places the foot steps, and the last
# number of the key it leaves says how far the step swings out towards +Z; between equal places it stands, or pivots
LEFT_FOOT = (
    (0, 0.31, 0.00, 10, 0), (1.0, 0.31, 0.00, 10, 0), (1.85, 0.06, -0.02, 10, 0), (3.0, 0.06, -0.02, 10, 0),
    (3.7, -0.24, -0.20, 35, 0), (4.0, -0.24, -0.20, 35, 0.1), (4.85, 0.03, 0.00, 110, 0), (6.0, 0.03, 0.00, 230, 0.16),
    (6.9, 0.31, 0.00, 370, 0), (8.0, 0.31, 0.00, 370, 0),
)  # fmt: skip
RIGHT_FOOT = (
    (0, 0.08, 0.03, -12, 0), (0.85, -0.20, 0.02, -14, 0), (2.0, -0.20, 0.02, -14, 0), (2.85, -0.42, 0.02, -14, 0),
    (5.0, -0.42, 0.02, 80, 0.20), (5.85, 0.19, 0.02, 195, 0), (7.0, 0.19, 0.02, 340, 0), (7.75, 0.08, 0.03, 348, 0),
    (8.0, 0.08, 0.03, 348, 0),
)  # fmt: skip

# one row per half beat
HIPS_X = (0.26, 0.04, -0.06, -0.27, -0.34, -0.10, 0.09, 0.25)
HIPS_Y = (-0.085, -0.10, -0.06, -0.10, -0.15, -0.13, -0.04, -0.08)  # metres below standing
HIPS_Z = (0.00, 0.02, 0.00, 0.02, -0.04, 0.03, 0.03, 0.00)
HIPS_ROLL = (12, -12, 12, -13, -6, 5, -5, 9)  # degrees; positive lifts the left hip
HIPS_TWIST = (12, -16, 14, -16, -14, 4, 0, 4)
CHEST_ROLL = (-12, 13, -13, 12, -12, -4, 4, -9)
CHEST_TWIST = (-12, 14, -14, 6, -34, -6, 8, -4)
CHEST_PITCH = (-4, 5, -4, 5, 12, 3, -8, -10)
HEAD_ROLL = (-12, 8, 12, 8, -10, 0, 0, -8)
HEAD_TURN = (20, 0, -24, -8, 12, 0, 0, 8)
# (elevation, degrees towards the front) of the upper arm, then of the forearm
LEFT_ARM = (
    ((45, 10), (78, 10)), ((12, 20), (-14, 35)), ((-42, 10), (-20, 130)), ((14, 15), (50, 20)),
    ((-8, 65), (8, 120)), ((-10, 60), (5, 135)), ((48, 40), (78, 100)), ((40, 0), (56, 0)),
)  # fmt: skip
RIGHT_ARM = (
    ((-42, 10), (-20, 130)), ((14, 10), (44, 15)), ((48, 10), (80, 10)), ((5, 15), (-22, 25)),
    ((12, 0), (32, 15)), ((-2, 35), (8, 75)), ((48, 40), (78, 100)), ((40, 0), (56, 0)),
)  # fmt: skip
HAND_LAG = 0.3  # half beats that the hands trail behind the forearms


def build() -> Scene:
    body = figure()

    def positions(time: float) -> list[NDArray[np.float32]]:
        return [body.skin(*pose(body, time / HALF_BEAT))]

    return Scene(
        "dancer", (Object("dancer", body.faces, body.corner_uv),), positions, DURATION, ground=0.0, azimuth=20.0
    )


def _track(values: Sequence | Array) -> CubicSpline:
    """A smooth periodic curve through one key per half beat."""
    keys = np.array([*values, values[0]], float)
    return CubicSpline(np.arange(HALF_BEATS + 1), keys, bc_type="periodic")


def _directions(keys: Sequence, side: float) -> CubicSpline:
    """Unit vectors in the chest's frame, [2, 3] per key: upper arm and forearm."""
    elevation, front = np.moveaxis(np.radians(np.array(keys, float)), -1, 0)
    x = side * np.cos(elevation) * np.cos(front)
    return _track(np.stack([x, np.sin(elevation), np.cos(elevation) * np.sin(front)], axis=-1))


TRACKS = {
    "hips": _track(np.stack([HIPS_X, HIPS_Y, HIPS_Z, HIPS_ROLL, HIPS_TWIST], axis=-1)),
    "chest": _track(np.stack([CHEST_ROLL, CHEST_TWIST, CHEST_PITCH, HEAD_ROLL, HEAD_TURN], axis=-1)),
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
    x, y, z, roll, twist = TRACKS["hips"](beat)
    chest_roll, chest_twist, chest_pitch, head_roll, head_turn = TRACKS["chest"](beat)
    turn = _smoothstep((beat - 3.9) / 3.6)
    yaw = 360 * turn
    gaze = head_turn + 360 * turn**2 / (turn**2 + (1 - turn) ** 2)  # dancers hold their gaze, then whip the head round
    bounce = 0.028 * np.cos(2 * np.pi * (beat - 0.05))

    rotations = {
        "hips": _euler(yaw + twist, roll),
        "waist": _euler(yaw + 0.5 * (twist + chest_twist), 0.5 * (roll + chest_roll), 0.5 * chest_pitch),
        "chest": _euler(yaw + chest_twist, chest_roll, chest_pitch),
        "neck": _euler(0.5 * (yaw + chest_twist + gaze), 0.5 * (chest_roll + head_roll), 0.5 * chest_pitch),
        "head": _euler(gaze, head_roll),
    }
    places = {"hips": np.array([x, rest["hips"][1] + y - bounce, z])}

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


def _foot(keys: Sequence[tuple], beat: float) -> tuple[Array, float, float]:
    """A foot at `beat`: offset [3] of its ball from the ground's origin, turn and pitch (heel up) in degrees."""
    i = sum(key[0] <= beat for key in keys[:-1]) - 1
    (start, x0, z0, turn0, swing), (end, x1, z1, turn1, _) = keys[i], keys[i + 1]
    share = (beat - start) / (end - start)
    eased = _smoothstep(share)
    turn = turn0 + (turn1 - turn0) * eased
    arc = np.sin(np.pi * share) ** 2
    if (x0, z0) == (x1, z1):
        return np.array([x0, 0.0, z0]), turn, 16 * arc * min(abs(turn1 - turn0) / 90, 1)
    return np.array([x0 + (x1 - x0) * eased, 0.10 * arc, z0 + (z1 - z0) * eased + swing * arc]), turn, 38 * arc


def _leg(side: str, beat: float, rest: dict[str, Array], rotations: dict[str, Array], places: dict[str, Array]) -> None:
    """Place the foot; bend the knee to where thigh and shin meet, towards the front of hips and foot."""
    thigh, knee, ankle, ball = (f"{name}.{side}" for name in ("thigh", "knee", "ankle", "ball"))
    place, turn, pitch = _foot(LEFT_FOOT if side == "L" else RIGHT_FOOT, beat)
    places[ball] = np.array([place[0], place[1] + rest[ball][1], place[2]])
    rotations[ball] = _euler(turn, 0, 0.4 * pitch if place[1] > 0 else 0.0)
    rotations[ankle] = _euler(turn, 0, pitch)
    places[ankle] = places[ball] + rotations[ankle] @ (rest[ankle] - rest[ball])

    places[thigh] = places["hips"] + rotations["hips"] @ (rest[thigh] - rest["hips"])
    upper, lower = (float(np.linalg.norm(rest[b] - rest[a])) for a, b in ((thigh, knee), (knee, ankle)))
    reach = places[ankle] - places[thigh]
    length = float(np.linalg.norm(reach))
    assert length < upper + lower, f"the {side} leg is too short at half beat {beat}"
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
