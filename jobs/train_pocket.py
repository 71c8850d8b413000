"""Train the embedded model from nothing: render the world, then critic, judge, autoencoder and diffusion, and
write the shipped folder.

python jobs/train_pocket.py [key=value ...]

output=renders/pocket   where stages are cached (an interrupted training goes on after its last finished stage)
model=renderer/pocket   where the finished model is written
start=                  a shipped folder to go on from
renew=denoiser          what is trained of it: its denoiser goes on; renew=all: decoder, critic and denoiser go on;
                        renew=instruments makes critic and judge anew
gpus=1                  GPUs of this machine that train together
images=120000           pictures to render (re-rendered at each start: faster than reading them)
seed=1                  decides pictures and captions
render_s=150            seconds for rendering: a slower GPU makes do with fewer pictures
critic_s=200 judge_s=210 autoencoder_s=250 diffusion_s=1200    seconds for each stage; its speed decides the steps;
                        half of them are enough for gpus=2
critic_steps=0 judge_steps=0 autoencoder_steps=0 diffusion_steps=0    fixed numbers of steps instead, if not 0
batch=512               pictures to a step of diffusion, over all GPUs
heldout=1024            pictures for the figures at the end
until=end               until=autoencoder stops there: diffusion then is a run of its own, from the same output; with renew=all
                        the model is written, with the denoiser that it had
compile=true            compile the networks for the GPU (pays after about 1,200 steps)
"""

import os
import sys
from dataclasses import dataclass

from jobs.pocket.arguments import ArgumentError, parse


@dataclass
class Settings:
    output: str = "renders/pocket"
    model: str = "renderer/pocket"
    start: str = ""
    renew: str = "denoiser"
    gpus: int = 1
    images: int = 120_000
    render_s: float = 150
    seed: int = 1
    critic_s: float = 200
    judge_s: float = 210
    autoencoder_s: float = 250
    diffusion_s: float = 1200
    critic_steps: int = 0
    judge_steps: int = 0
    autoencoder_steps: int = 0
    diffusion_steps: int = 0
    batch: int = 512
    heldout: int = 1024
    compile: bool = True
    until: str = "end"


def main(arguments: list[str]) -> int:
    if "--help" in arguments or "-h" in arguments:
        print(__doc__)
        return 0
    try:
        settings = parse(
            Settings, arguments, {"until": ("end", "autoencoder"), "renew": ("denoiser", "instruments", "all")}
        )
    except ArgumentError as error:
        print(error, file=sys.stderr)
        return 2
    from jobs.pocket import team, training  # torch and the libraries take seconds: after the arguments are right

    if settings.gpus > 1 and "RANK" not in os.environ:
        return team.launch(settings.gpus)
    training.set_precision()
    training.train(team.join(), settings)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
