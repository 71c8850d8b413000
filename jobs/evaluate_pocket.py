"""Measure the shipped embedded model: what the judge recognises, silhouettes, reconstruction, cost; and draw
unselected grids.

    python jobs/evaluate_pocket.py [key=value ...]

    preset=cpu               10 pictures, a few minutes on two CPU cores; preset=gpu: 1,024 pictures
    model=renderer/pocket    the folder to measure
    output=renders/evaluate_pocket    where summary.json and the grids go
    steps=0 guidance=0       instead of the model's own defaults, if not 0
    pictures=0               instead of the preset's number, if not 0
    seed=999                 decides scenes, prompts and noise

Scenes are new: their shapes, cameras and combinations come from a seed that training does not use. The first sheet holds fixed
prompts on fixed heroes, the second the scenes themselves: control image, true render, generated picture.
"""

import json
import sys
from dataclasses import dataclass

from jobs.pocket.arguments import ArgumentError, parse


@dataclass
class Settings:
    preset: str = "cpu"
    model: str = "renderer/pocket"
    output: str = "renders/evaluate_pocket"
    steps: int = 0
    guidance: float = 0.0
    pictures: int = 0
    seed: int = 999


def main(arguments: list[str]) -> int:
    if "--help" in arguments or "-h" in arguments:
        print(__doc__)
        return 0
    try:
        settings = parse(Settings, arguments, {"preset": ("cpu", "gpu")})
    except ArgumentError as error:
        print(error, file=sys.stderr)
        return 2
    from jobs.pocket.measuring import evaluate  # torch and the libraries take seconds: after the arguments are right

    print(json.dumps(evaluate(settings), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
