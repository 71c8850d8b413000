"""Built-in scenes, authored in code. Each module has one function, build() -> Scene."""

from importlib import import_module

from renderer.errors import SceneError
from renderer.scene import Scene

BUILTIN = {
    "dancer": "a figure that dances: hips, arm waves, and a turn across the floor (32 frames at 12 fps are one loop)",
    "bounce": "a ball that bounces among toy blocks, a cone and a ring (rigid motion)",
    "turntable": "an ornate ewer, still, with the camera once around it",
    "flag": "a flag on its pole in the wind (cloth)",
    "fish": "a swimming fish, free in the water (deforming, no ground)",
}


def build(name: str) -> Scene:
    """The built-in scene of this name; raises SceneError, one line with all the names, for any other."""
    if name not in BUILTIN:
        raise SceneError(f"scene '{name}' is not built in; the built-in scenes are {', '.join(BUILTIN)}")
    return import_module(f"renderer.builtin.{name}").build()
