"""However keyframe features travel, and whatever happens to them on the way, the pixels are the same. Nothing here is a mock:
Ray's collective groups run on CPU workers as they do on GPUs, with gloo for NCCL."""

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch
from conftest import QUIET
from ray.experimental.collective import destroy_collective_group, get_collective_groups

from farm.config import FarmConfig
from farm.dispatcher import Farm
from farm.executor import take_part
from farm.machine import Machine
from farm.transport import Gang, choose_transport
from renderer.errors import ConfigError
from renderer.frames import FrameRenderer
from renderer.plan import feature_bytes, make_plan
from renderer.render import InlineExecutor, denoise, survey

pytestmark = pytest.mark.xdist_group("ray")

TRANSPORTS = ("object_store", "nccl", "recompute")
STORE = 80 * 2**20  # bytes; Ray allows no less than 75 MiB


@pytest.fixture(scope="module", autouse=True)
def small_object_store():
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init(address="local", num_cpus=8, object_store_memory=STORE, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def plan(small, tmp_path_factory):
    """A surveyed plan of four chunks."""
    made, _ = make_plan(small(frames=7, chunk=2), tmp_path_factory.mktemp("plan"), "cpu", threads=1)
    return survey(made, InlineExecutor(), QUIET)


@pytest.fixture(scope="module")
def undisturbed(plan):
    """The latents that one process makes."""
    return denoise(plan, InlineExecutor(), QUIET)


class Opened:
    """A farm and one render's access to it."""

    def __init__(self, workers=2, standing=None, **config):
        self.farm = Farm(FarmConfig(threads=1, **config), Machine("cpu", "CPU", workers), standing)
        self.part = take_part(self.farm, lambda workers: None)

    def __enter__(self):
        self.executor = self.part.__enter__()
        return self

    def __exit__(self, *_):
        self.part.__exit__(None, None, None)
        self.farm.close()
        for seat in self.farm.seats:
            if seat.actor:
                ray.kill(seat.actor)

    def book(self):
        return ray.get(self.farm.features.store.book.remote())


def wait_for(condition, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it has not come about"
        time.sleep(0.01)


def count_passes(worker):
    """From now on the worker's process writes down its keyframe passes."""
    if not hasattr(FrameRenderer, "made"):
        made, original = [], FrameRenderer.keyframe_features

        def counted(self, timestep, *arguments):
            made.append(timestep)
            return original(self, timestep, *arguments)

        FrameRenderer.made, FrameRenderer.keyframe_features = made, counted
    FrameRenderer.made.clear()


def on_each(opened, function):
    return ray.get([seat.actor.__ray_call__.remote(function) for seat in opened.farm.seats])


def ready(opened, plan):
    """Models are loaded, passes counted, and the workers are a group where they are to be one."""
    opened.executor.prepare(plan)
    on_each(opened, count_passes)
    if opened.farm.features.gang:
        wait_for(lambda: opened.farm.features.gang.whole)


def passes(opened):
    """How many keyframe passes each worker has run."""
    return [len(made) for made in on_each(opened, lambda worker: FrameRenderer.made)]


@pytest.fixture(scope="module")
def gang(plan):
    with Opened(transport="nccl") as opened:
        yield opened


@pytest.fixture(scope="module")
def shop(plan):
    """Two workers that exchange features through the object store, of which these may take 5 of 80 MB."""
    with Opened(transport="object_store", feature_memory=0.06) as opened:
        yield opened


@pytest.fixture(scope="module")
def apart(plan):
    with Opened(transport="recompute") as opened:
        yield opened


@pytest.mark.parametrize("farm", ["gang", "shop", "apart"])
def test_every_transport_makes_the_same_latents_and_leaves_nothing_behind(plan, undisturbed, farm, request):
    opened = request.getfixturevalue(farm)
    ready(opened, plan)
    assert torch.equal(denoise(plan, opened.executor, QUIET), undisturbed)
    made = passes(opened)
    if farm == "apart":
        assert max(made) == plan.steps < sum(made)
    else:
        assert sum(made) == plan.steps
        wait_for(lambda: opened.book()["entries"] == [])
        assert opened.book()["peak"] in (feature_bytes(plan), 2 * feature_bytes(plan)), "of a step, and of the next"
    assert on_each(opened, lambda worker: list(worker.features)) == [[], []]


@pytest.mark.parametrize(
    ("farm", "victim"),
    [
        ("gang", "reader"),
        pytest.param("gang", "source", marks=pytest.mark.long),
        pytest.param("shop", "source", marks=pytest.mark.long),
    ],
)
def test_one_that_dies_in_an_exchange_changes_nothing_and_features_travel_again(
    plan, undisturbed, farm, victim, request
):
    opened = request.getfixturevalue(farm)
    ready(opened, plan)
    killed = []

    def kill_one():
        """Whoever sends is stopped first, so that the exchange is under way for certain."""
        while not killed:
            for seat in opened.farm.seats:
                task = seat.task
                made = opened.farm.features.passes.get(task.carries) if task and task.carries else None
                sender = next((other for other in opened.farm.seats if made and other.actor == made.source), None)
                if sender and sender.address and seat.address:
                    os.kill(sender.address["pid"], signal.SIGSTOP)
                    killed.append((sender if victim == "source" else seat).address["pid"])
                    time.sleep(0.2)
                    os.kill(killed[0], signal.SIGKILL)
                    return

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    assert torch.equal(denoise(plan, opened.executor, QUIET), undisturbed)
    killer.join(timeout=1)
    assert killed
    ready(opened, plan)
    assert torch.equal(denoise(plan, opened.executor, QUIET), undisturbed)
    assert sum(passes(opened)) == plan.steps


def test_a_group_that_ray_has_taken_down_costs_no_pixels(gang, plan, undisturbed):
    ready(gang, plan)
    (group,) = get_collective_groups([])
    destroy_collective_group(group)
    assert torch.equal(denoise(plan, gang.executor, QUIET), undisturbed)
    ready(gang, plan)


@pytest.mark.long
def test_where_no_group_can_be_features_take_the_other_way(plan, undisturbed, monkeypatch):
    """NCCL on workers that have no GPU."""
    monkeypatch.setattr(Gang, "form", lambda self, *given: FORM(setattr(self, "backend", "nccl") or self, *given))
    with Opened(transport="nccl") as opened:
        wait_for(lambda: opened.farm.features.gang is None)
        opened.executor.prepare(plan)
        on_each(opened, count_passes)
        assert torch.equal(denoise(plan, opened.executor, QUIET), undisturbed)
        assert sum(passes(opened)) == plan.steps


FORM = Gang.form


def large(plan, keyframes):
    """The plan at 256², with so many keyframes: 0.8 MB of features each, as that model's layers are."""
    config = replace(
        plan.config, resolution=256, frames=8, chunk=8, method=replace(plan.config.method, keyframes=keyframes)
    )
    made, _ = make_plan(config, plan.work.parent / f"large {keyframes}", "cpu", threads=1)
    return survey(made, InlineExecutor(), QUIET)


def test_renders_wait_for_room_and_nothing_spills(shop, plan):
    """Three at once, of which two would take more than features may."""
    wide = large(plan, 4)
    assert 2 * feature_bytes(wide) > shop.book()["capacity"] > feature_bytes(wide)
    expected = denoise(wide, InlineExecutor(), QUIET)
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        parts = [stack.enter_context(take_part(shop.farm, lambda workers: None)) for _ in range(3)]
        for part in parts:
            part.prepare(wide)
        for found in pool.map(lambda part: denoise(wide, part, QUIET), parts):
            assert torch.equal(found, expected)
    wait_for(lambda: shop.book()["entries"] == [])
    assert feature_bytes(wide) <= shop.book()["peak"] <= shop.book()["capacity"]
    session = Path(ray._private.worker.global_worker.node.get_session_dir_path())
    assert list(session.glob("**/ray_spilled_objects*/*")) == []


def test_what_takes_the_room_finds_a_worker_that_loads_its_model_for_it(plan):
    """Both workers have a home; its features wait for those of a third render, whose model nobody has."""
    wide = large(plan, 4)
    expected = denoise(wide, InlineExecutor(), QUIET)
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        opened = stack.enter_context(Opened(transport="object_store", feature_memory=0.06))
        parts = [stack.enter_context(take_part(opened.farm, lambda workers: None)) for _ in range(2)]
        third = pool.submit(denoise, wide, parts[1], QUIET)
        wait_for(lambda: opened.book()["entries"])
        homes = [pool.submit(denoise, wide, executor, QUIET) for executor in (opened.executor, parts[0])]
        for found in (third, *homes):
            assert torch.equal(found.result(timeout=120), expected)


def test_what_would_not_fit_is_refused_in_one_line_that_says_what_would(shop, plan, undisturbed):
    wide = large(plan, 8)
    with pytest.raises(
        ConfigError, match=r"take \d+ MB.* leaves them 5 MB.*recompute.*method.keyframes=\d fits"
    ) as raised:
        shop.executor.prepare(wide)
    fitting = int(str(raised.value).partition("keyframes=")[2].split()[0])
    shop.executor.prepare(large(plan, fitting))
    assert not feature_bytes(large(plan, fitting + 1)) < shop.book()["capacity"]


@pytest.mark.long
def test_auto_recomputes_what_would_not_fit(plan, undisturbed):
    with Opened(transport="auto", feature_memory=0.001) as opened:
        ready(opened, plan)
        assert feature_bytes(plan) > opened.book()["capacity"]
        assert torch.equal(denoise(plan, opened.executor, QUIET), undisturbed)
        assert opened.book()["peak"] == 0
        assert sum(passes(opened)) > plan.steps


def test_one_worker_has_nobody_to_send_anything_to(monkeypatch):
    for transport in ("auto", *TRANSPORTS):
        assert choose_transport(FarmConfig(transport=transport), Machine("cpu", "CPU", 1)) == "recompute"
    cuda = Machine("cuda", "GPU", 2)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert choose_transport(FarmConfig(), cuda) == "nccl"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert choose_transport(FarmConfig(), cuda) == "object_store"
    with pytest.raises(ConfigError, match=r"CuPy.*pip install"):
        choose_transport(FarmConfig(transport="nccl"), cuda)
