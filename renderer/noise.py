"""Noise that lives on surfaces: a pixel's noise is a hash of the place it shows, so a place looks the same in every frame.

Generative Rendering, section 4.2 (UV noise initialisation). No texture is stored and no generator is advanced: the value
depends on (seed, place, channel) alone, never on the order of calls, the number of frames or of workers.
"""

import numpy as np
from numpy.typing import NDArray

from renderer.camera import Camera
from renderer.gbuffer import NOTHING, GBuffer, Geometry

HERO, PLANE, DOME, SCREEN, RANDOM = range(1, 6)  # kinds of places, so that their keys never meet


def mix64(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele et al. 2014): a bijection of 64-bit integers whose output bits look random."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hash_key(*parts: NDArray | int) -> NDArray[np.uint64]:
    """One 64-bit key from several integers or integer arrays (broadcast against each other)."""
    key = np.zeros(np.broadcast_shapes(*(np.shape(part) for part in parts)), np.uint64)
    for part in parts:
        part = np.asarray(part).astype(np.int64).view(np.uint64)
        key = mix64((key ^ part) + np.uint64(0x9E3779B97F4A7C15))
    return key


def hashed_normal(keys: NDArray[np.uint64], seed: int, channels: int) -> NDArray[np.float32]:
    """Standard normal numbers that depend on (key, seed, channel) only: keys [...] → float32 [channels, ...], by Box–Muller."""
    draws = hash_key(keys[None], seed, np.arange(channels).reshape(-1, *[1] * keys.ndim))
    u1 = ((draws >> np.uint64(40)).astype(np.float64) + 0.5) / 2**24
    u2 = (mix64(draws) >> np.uint64(40)).astype(np.float64) / 2**24
    return (np.sqrt(-2 * np.log(u1)) * np.cos(2 * np.pi * u2)).astype(np.float32)


def screen_keys(size: tuple[int, int], frame: int | None = None) -> NDArray[np.uint64]:
    """Keys [h, w] of places on the screen: the same in all frames, or (with a frame number) new in each."""
    y, x = np.mgrid[: size[1], : size[0]]
    return hash_key(SCREEN, y, x) if frame is None else hash_key(RANDOM, frame, y, x)


def surface_keys(
    gbuffer: GBuffer, geometry: Geometry, sides: tuple[int, ...], camera: Camera, texels: float
) -> NDArray[np.uint64]:
    """Keys [h, w] of the places that the pixels of a latent-sized G-buffer show.

    A hero's places are the cells of its atlas (sides: cells along each atlas). The ground's are cells of the plane, the
    dome's are cells of a cube of directions; both have `texels` cells along a pixel's footprint, so density follows the
    camera. Pixels that show nothing keep a place on the screen.
    """
    height, width = gbuffer.object.shape
    focal = camera.focal((width, height))
    keys = screen_keys((width, height))

    hero = gbuffer.triangle >= 0
    obj = gbuffer.object[hero]
    cells = np.floor(gbuffer.uv[hero] * np.asarray(sides)[obj, None]).astype(np.int64)
    keys[hero] = hash_key(HERO, obj, cells[:, 1], cells[:, 0])

    ground = gbuffer.object == geometry.heroes
    footprint = 1 / (gbuffer.inverse_depth[ground].astype(np.float64) * focal * texels)
    level = np.floor(np.log2(footprint))
    cells = np.floor(gbuffer.point[ground][:, [0, 2]] / 2.0 ** level[:, None]).astype(np.int64)
    keys[ground] = hash_key(PLANE, level.astype(np.int64), cells[:, 0], cells[:, 1])

    dome = gbuffer.object == geometry.heroes + 1
    direction = gbuffer.point[dome][:, :3]
    axis = np.abs(direction).argmax(axis=1)
    major = np.take_along_axis(direction, axis[:, None], axis=1)
    cells = np.floor(direction / np.abs(major) * focal * texels).astype(np.int64)
    keys[dome] = hash_key(DOME, axis, cells[:, 0], cells[:, 1], cells[:, 2])
    assert NOTHING not in (geometry.heroes, geometry.heroes + 1)
    return keys
