"""Memory that ends and workers that are sick: real processes under real limits, and the same pixels after it."""

import contextlib
import re
import resource
import time
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch
from conftest import PER_FRAME
from test_farm import Silent, in_use, submission

from farm import crew
from farm.dispatcher import Farm
from farm.executor import take_part
from farm.machine import Machine, start_ray, stop_ray
from renderer.errors import OutOfMemoryError
from renderer.plan import make_plan
from renderer.render import survey

pytestmark = pytest.mark.xdist_group("ray")

MEMORY = {}  # seat → bytes that its process has where memory is short


@pytest.fixture(scope="module")
def farm(small, tmp_path_factory):
    """Two workers, and a surveyed plan of one frame, padded to a chunk whose first tensor on the network takes 200 MB."""
    config = small(frames=1, chunk=512, resolution=128, method=PER_FRAME)
    config = submission(config, tmp_path_factory.mktemp("farm"), name="local", workers=2)
    plan, _ = make_plan(config, Path(config.output.dir), "cpu", threads=1)
    try:
        start_ray(config.farm)
        workers = Farm(config.farm, Machine("cpu", "CPU", 2))
        with take_part(workers, lambda workers: None) as executor:
            plan = survey(plan, executor, Silent())
            executor.prepare(plan)
            for seat in workers.seats:
                MEMORY[seat] = in_use(seat.address["pid"]) + 340 * 10**6
            yield executor, plan
        workers.close()
    finally:
        stop_ray()


@contextlib.contextmanager
def limited(kind, limits):
    """Within the block these workers' processes ({seat: bytes}) have so much of something, and no byte more."""
    pids = {seat.address["pid"]: limit for seat, limit in limits.items()}
    for pid, limit in pids.items():
        resource.prlimit(pid, kind, (limit, -1))
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, kind, (-1, -1))


def prediction(executor, plan):
    """One network evaluation."""
    latents = torch.randn(1, 4, 16, 16, generator=torch.manual_seed(0))
    ((_, found),) = executor.run(plan, "predict", [(500, (0,), latents, [], None, 0.0)])
    return found


def test_where_all_are_short_of_memory_one_line_names_the_chunk_that_fits(farm):
    executor, plan = farm
    with limited(resource.RLIMIT_DATA, MEMORY):
        with pytest.raises(OutOfMemoryError, match=r"^predict needs more memory .*: chunk=\d+ fits") as raised:
            prediction(executor, plan)
        chunk = int(re.search(r"chunk=(\d+)", str(raised.value))[1])
        assert 16 <= chunk < plan.config.chunk
        # Half of it here, as these processes' heaps are in pieces by now; a render with another chunk has new ones.
        smaller = replace(plan, config=replace(plan.config, chunk=chunk // 2))
        assert prediction(executor, smaller).isfinite().all()


def test_where_one_worker_is_short_of_memory_another_takes_the_call(farm):
    executor, plan = farm
    plan = replace(plan, config=replace(plan.config, chunk=256))
    before = prediction(executor, plan)
    loads = executor.prepare(plan)
    seat = executor.farm.seats[0]
    with limited(resource.RLIMIT_DATA, {seat: MEMORY[seat]}):
        assert torch.equal(prediction(executor, plan), before)
    assert executor.prepare(plan) > loads  # it had freed its model
    assert seat.address["pid"] == pid(seat)  # and lives


def pid(seat):
    return ray.get(seat.actor.where.remote())["pid"]


def test_a_sick_worker_rests_and_is_forgiven(farm, monkeypatch):
    """It cannot write files. What it fails at another worker does; after three times it is asked no more, for a while."""
    executor, plan = farm
    monkeypatch.setattr(crew, "FORGIVEN", 12.0)
    seat = executor.farm.seats[0]
    frames = [((0,),)] * 16
    with limited(resource.RLIMIT_FSIZE, {seat: 0}):
        done = [position for position, _ in executor.run(plan, "make_gbuffers", frames)]
        assert sorted(done) == list(range(len(frames)))
        assert seat.blocked_until > time.monotonic()
        last = seat.since
        assert len(list(executor.run(plan, "make_gbuffers", frames[:4]))) == 4
        assert seat.since == last
    time.sleep(max(0, seat.blocked_until - time.monotonic()))
    assert len(list(executor.run(plan, "make_gbuffers", frames))) == len(frames)
    assert seat.since > last
    assert seat.failures == 0
