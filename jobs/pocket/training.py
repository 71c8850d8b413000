"""The whole training, stage after stage, each cached when it is done."""

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from jobs.pocket import autoencoding, critic, dataset, diffusion, evaluation, judge, networks, shipping, tokenizer
from jobs.pocket.dataset import Captions, Dataset
from jobs.pocket.shipping import GUIDANCE, STEPS, Pocket
from jobs.pocket.team import Team
from jobs.train_pocket import Settings


def stage(team: Team, path: Path, empty: Callable[[], nn.Module], train: Callable[[], nn.Module]) -> Any:
    """A trained network, from its file if there is one; everybody reads the leader's."""
    if not path.exists():
        trained = train()
        if team.leads:
            torch.save(trained.state_dict(), path.with_suffix(".tmp"))
            path.with_suffix(".tmp").rename(path)
        team.synchronize()
    team.log(path.stem, "ready")
    model = empty()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return networks.placed(model, team.device).eval().requires_grad_(False)


def set_precision() -> None:
    """Matrix products in TF32. The compiler's cache tells settings apart, so that every process has to make the
    same ones."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True


def precompile(part: str, share: int, words_of: Path, going_on: bool) -> None:
    """Compile what one part trains by a step on blank pictures, in a process of its own while the real ones are
    rendered: the compiler's cache is shared. going_on: the autoencoder's encoder stays, which compiles to something else."""
    set_precision()
    device = torch.device("cuda")
    alone = Team(1, 1, device, 0.0)
    coder = tokenizer.load(words_of)
    byte = lambda *shape: torch.zeros(*shape, dtype=torch.uint8, device=device)  # noqa: E731
    data = Dataset(
        byte(share, 3, 256, 256), byte(share, 1, 256, 256), byte(share, 1, 256, 256).bool(), byte(share, 7).long()
    )
    ids = byte(share, 1, tokenizer.TEXT_LENGTH).int()
    if part == "critic":
        critic.train(alone, data, 0, True, steps=1)
    elif part == "judge":
        judge.train(alone, data, ids, coder, 0, True, steps=1)
    elif part == "autoencoder":
        start = networks.autoencoder().state_dict() if going_on else None
        autoencoding.train(alone, data, networks.Critic().to(device).eval(), 0, True, steps=1, start=start)
    else:
        latents = torch.zeros(share, 4, 32, 32, device=device)
        diffusion.train(alone, latents, data.control, ids, ids[0, 0].long(), len(coder), 0, True, steps=1, batch=share)


def train(team: Team, settings: Settings) -> None:
    output = Path(settings.output)
    if team.leads:
        output.mkdir(parents=True, exist_ok=True)
        if not settings.start:
            tokenizer.build(output / "tokenizer")
    team.synchronize()
    words_of = (Path(settings.start) if settings.start else output) / "tokenizer"
    coder = tokenizer.load(words_of)
    instruments_only = bool(settings.start) and settings.renew == "instruments"
    going_on = bool(settings.start) and settings.renew == "all"
    if settings.compile and team.leads:
        context = multiprocessing.get_context("spawn")
        parts = {
            "instruments": ("critic", "judge"),
            "denoiser": ("denoiser",),
            "all": ("autoencoder", "critic", "denoiser"),
        }
        for part in parts[settings.renew] if settings.start else ("critic", "judge", "autoencoder", "denoiser"):
            context.Process(target=precompile, args=(part, settings.batch // team.size, words_of, going_on)).start()
    data = dataset.render(
        settings.images // team.size, settings.seed * 1000 + team.rank, team.device, seconds=settings.render_s
    )
    team.synchronize()
    team.log(len(data), "pictures rendered by each of", team.size)
    if team.leads:
        evaluation.sheet(data.images[: 48 * 32 : 32].float() / 255, 8).save(output / "pictures.png")
    captions = Captions(data, words_of, settings.seed * 1000 + team.rank)
    given = shipping.load(Path(settings.start), team.device) if settings.start and not instruments_only else None
    eye = given.critic if given else stage(
        team, output / "critic.pt", networks.Critic,
        lambda: critic.train(team, data, settings.critic_s, settings.compile, settings.critic_steps),
    )  # fmt: skip
    ids = captions.ids(team)
    team.log("captions ready")
    referee = given.judge if given else stage(
        team, output / "judge.pt", lambda: networks.judge(len(coder)),
        lambda: judge.train(team, data, ids, coder, settings.judge_s, settings.compile, settings.judge_steps),
    )  # fmt: skip
    if instruments_only:
        denoiser, vae = shipping.load_model(Path(settings.start), team.device)
        finish(team, Pocket(denoiser, vae, referee, eye, coder), settings)
        return
    vae = given.vae if given and not going_on else stage(
        team, output / "autoencoder.pt", networks.autoencoder,
        lambda: autoencoding.train(
            team, data, eye, settings.autoencoder_s, settings.compile, settings.autoencoder_steps,
            given.vae.state_dict() if given else None,
        ),
    )  # fmt: skip
    if given and going_on:
        vae.register_to_config(scaling_factor=given.vae.config.scaling_factor)
        eye = stage(
            team, output / "critic.pt", networks.Critic,
            lambda: critic.train(
                team, autoencoding.with_rebuilt(data, vae), settings.critic_s, settings.compile, settings.critic_steps,
                given.critic.state_dict(),
            ),
        )  # fmt: skip
    if settings.until == "autoencoder":
        if given and going_on:
            finish(team, Pocket(given.denoiser, vae, referee, eye, coder), settings)
        return
    latents = autoencoding.encode(vae, data.images)
    if not given:
        vae.register_to_config(scaling_factor=team.agree(1 / latents[:20000].float().std().item()))
    latents = latents * vae.config.scaling_factor
    team.log("latents ready, scale", round(vae.config.scaling_factor, 4))
    empty = torch.tensor(tokenizer.encode(coder, [""])[0], device=team.device)
    denoiser = stage(
        team, output / "denoiser.pt", lambda: networks.Denoiser(len(coder)),
        lambda: diffusion.train(
            team, latents, data.control, ids, empty, len(coder), settings.diffusion_s, settings.compile,
            given.denoiser.state_dict() if given else None, settings.diffusion_steps, settings.batch, output / "diffusion.pt",
        ),
    )  # fmt: skip
    finish(team, Pocket(denoiser, vae, referee, eye, coder), settings)


def finish(team: Team, pocket: Pocket, settings: Settings) -> None:
    """Write the folder; figures and an unselected grid of held-out scenes."""
    if not team.leads:
        return
    shipping.save(Path(settings.model), pocket)
    team.log("saved", settings.model)
    if not settings.heldout:
        return
    held = dataset.render(settings.heldout, settings.seed * 1000 + 999, team.device, batch=4)
    output = Path(settings.output)
    evaluation.sheet(held.images[:48].float() / 255, 8).save(output / "true.png")
    figures, made = evaluation.report(pocket, held, STEPS, GUIDANCE)
    team.log(json.dumps(figures))
    (output / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    evaluation.sheet(made[:48], 8).save(output / "grid.png")
