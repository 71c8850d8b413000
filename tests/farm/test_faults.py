"""Memory that ends, workers that are sick, nodes that go: on real workers and a real cluster, and the same pixels after it."""

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
from ray.cluster_utils import Cluster
from test_farm import Silent, submission

from farm import dispatcher, driver
from farm.dispatcher import Farm
from farm.executor import take_part
from farm.machine import Machine, start_ray, stop_ray
from farm.progress import Progress
from renderer.errors import OutOfMemoryError
from renderer.manifest import read_manifest
from renderer.plan import make_plan
from renderer.render import survey

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


def in_use(pid):
    """Bytes of a process's own memory."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmData"))
    return int(line.split()[1]) * 1024


def prediction(executor, plan):
    """One network evaluation."""
    latents = torch.randn(1, 4, 16, 16, generator=torch.manual_seed(0))
    ((_, found),) = executor.run(plan, "predict", [(500, (0,), latents, [], None)])
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
    monkeypatch.setattr(dispatcher, "FORGIVEN", 12.0)
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


@pytest.fixture
def cluster(monkeypatch):
    """A cluster whose head computes nothing, with two nodes of one worker each."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):  # this process starts the cluster and uses it
        monkeypatch.delenv(name, raising=False)
    memory = {"object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, **memory)
        # Before the farm does: on one machine these nodes would unpack the code that it sends into one folder at once.
        ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
    finally:
        stop_ray()
        cluster.shutdown()


def test_a_node_that_is_removed_changes_nothing(small, cluster, tmp_path):
    """While its worker and another denoise; its share of the features goes with it."""

    class Removing(Progress):
        def advance(self, units=1):
            super().advance(units)
            if self.status.phase == "denoising" and self.done > 1 and len(cluster.worker_nodes) == 2:
                cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    config = small(frames=4, resolution=128)
    with Progress(tmp_path / "alone", config.frames) as progress:
        driver.submit(submission(config, tmp_path / "alone", name="inline"), progress)
    with Removing(tmp_path / "cluster", config.frames) as progress:
        driver.submit(submission(config, tmp_path / "cluster", name="cluster", address=cluster.address), progress)
    assert len(cluster.worker_nodes) == 1
    assert read_manifest(tmp_path / "cluster").frames == read_manifest(tmp_path / "alone").frames


def test_features_whose_node_is_gone_are_made_again(small, cluster, tmp_path):
    config = submission(small(resolution=256), tmp_path, name="cluster", address=cluster.address)
    start_ray(config.farm)
    plan, _ = make_plan(config, tmp_path, "cpu", threads=1)
    farm = Farm(config.farm, Machine("cpu", "CPU", 2))
    with take_part(farm, lambda workers: None) as executor:
        plan = survey(plan, executor, Silent())
        latents = torch.randn(2, 4, 32, 32, generator=torch.manual_seed(0))
        kept = executor.keep(plan, "keyframe_features", (500, [1, 3], latents), readers=2)
        call = (500, (0, 1), latents, [1, 3], kept)
        ((_, before),) = executor.run(plan, "predict", [call])
        made = farm.passes[kept.key]
        ray.wait([reference := made.reference])
        (holder,) = (node for node in cluster.worker_nodes if node.node_id in where(reference)[:1])
        cluster.remove_node(holder, allow_graceful=False)
        for number in list(made.holders):  # the other worker may have them already
            farm.seats[number].actor.forget.remote(kept.key)
        made.holders.clear()
        ((_, after),) = executor.run(plan, "predict", [call])
    farm.close()
    assert torch.equal(before, after)


def where(reference):
    """Nodes that hold an object, by id."""
    return ray.experimental.get_object_locations([reference])[reference]["node_ids"]
