"""Where heroes stand: a backdrop and a ground, and their light; the words for them stand in `words.ENVIRONMENTS`."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from jobs.pocket import backdrops, grounds
from jobs.pocket.place import Place

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Environment:
    """Backdrop and ground, the light that comes from the sky, the horizon and the ground, the sun,
    and which moods suit it."""

    sky: Callable[[Place, Tensor, Tensor], Tensor]
    ground: Callable[[Place, Tensor, Tensor], Tensor]
    zenith: RGB
    horizon: RGB
    floor: RGB
    sun: RGB
    height: float = 0.8
    outdoors: bool = True


ENVIRONMENTS: dict[str, Environment] = {
    "snow forest": Environment(
        backdrops.snow_forest, grounds.snow, (0.65, 0.76, 0.92), (0.86, 0.9, 0.95), (0.8, 0.84, 0.9), (0.8, 0.78, 0.74), 0.6
    ),
    "desert": Environment(
        backdrops.desert, grounds.dune, (0.45, 0.65, 0.9), (0.95, 0.86, 0.68), (0.7, 0.52, 0.32), (1.25, 1.15, 1.0)
    ),
    "beach": Environment(
        backdrops.beach, grounds.beach, (0.4, 0.64, 0.92), (0.78, 0.9, 0.97), (0.75, 0.68, 0.5), (1.2, 1.15, 1.08), 0.9
    ),
    "neon city": Environment(
        backdrops.neon_city, grounds.street, (0.16, 0.12, 0.32), (0.55, 0.25, 0.58), (0.2, 0.16, 0.26), (0.6, 0.5, 0.85), 0.7, False
    ),
    "meadow": Environment(
        backdrops.meadow, grounds.grass, (0.42, 0.64, 0.93), (0.78, 0.9, 0.97), (0.28, 0.44, 0.18), (1.2, 1.15, 1.05), 0.9
    ),
    "studio": Environment(
        backdrops.studio, grounds.studio, (0.8, 0.8, 0.82), (0.58, 0.58, 0.6), (0.5, 0.5, 0.5), (0.9, 0.9, 0.9), 0.9, False
    ),
    "plain": Environment(
        backdrops.plain, grounds.plain, (0.8, 0.8, 0.82), (0.58, 0.58, 0.6), (0.5, 0.5, 0.5), (0.9, 0.9, 0.9), 0.9, False
    ),
    "space": Environment(
        backdrops.space, grounds.moon, (0.1, 0.1, 0.2), (0.32, 0.2, 0.45), (0.2, 0.2, 0.24), (1.15, 1.12, 1.08), 0.5, False
    ),
    "underwater": Environment(
        backdrops.underwater, grounds.seabed, (0.4, 0.82, 0.88), (0.15, 0.45, 0.58), (0.12, 0.3, 0.36), (0.55, 0.85, 0.88),
        1.2, False
    ),
    "volcano": Environment(
        backdrops.volcano, grounds.ash, (0.28, 0.12, 0.1), (0.85, 0.34, 0.12), (0.5, 0.18, 0.06), (0.85, 0.55, 0.38), 0.5, False
    ),
    "autumn forest": Environment(
        backdrops.autumn_forest, grounds.leaf, (0.85, 0.8, 0.68), (0.92, 0.74, 0.45), (0.48, 0.28, 0.14), (1.0, 0.9, 0.7), 0.7
    ),
    "clouds": Environment(
        backdrops.clouds, grounds.cloud, (0.4, 0.6, 0.92), (0.86, 0.93, 1.0), (0.85, 0.9, 0.97), (1.0, 0.98, 0.94), 0.9
    ),
    "room": Environment(
        backdrops.room, grounds.floor, (0.45, 0.34, 0.25), (0.68, 0.48, 0.3), (0.34, 0.2, 0.12), (1.0, 0.8, 0.52), 0.6, False
    ),
    "mountains": Environment(
        backdrops.mountains, grounds.alp, (0.42, 0.6, 0.9), (0.82, 0.9, 0.96), (0.36, 0.4, 0.3), (1.1, 1.07, 1.0)
    ),
    "jungle": Environment(
        backdrops.jungle, grounds.jungle, (0.55, 0.74, 0.5), (0.6, 0.8, 0.46), (0.2, 0.3, 0.12), (0.95, 0.95, 0.78), 1.0
    ),
    "blossom garden": Environment(
        backdrops.blossom_garden, grounds.petal, (0.72, 0.8, 0.95), (0.96, 0.84, 0.9), (0.5, 0.52, 0.4), (1.05, 1.0, 0.98), 0.9
    ),
    "arctic": Environment(
        backdrops.arctic, grounds.floe, (0.42, 0.6, 0.82), (0.76, 0.9, 0.95), (0.6, 0.74, 0.85), (0.9, 0.92, 0.95), 0.6
    ),
    "castle": Environment(
        backdrops.castle, grounds.tile, (0.4, 0.36, 0.33), (0.6, 0.5, 0.4), (0.3, 0.27, 0.25), (0.95, 0.82, 0.6), 0.9, False
    ),
}  # fmt: skip
