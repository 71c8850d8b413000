"""Nodes that go, and what they held: a real cluster of several raylets on this machine, and the same pixels after it."""

import pytest
import ray
import torch
from ray.cluster_utils import Cluster
from test_farm import Silent, submission

from farm import driver
from farm.dispatcher import Farm
from farm.executor import take_part
from farm.machine import Machine, start_ray, stop_ray
from farm.progress import Progress
from renderer.manifest import read_manifest
from renderer.plan import make_plan
from renderer.render import survey

pytestmark = pytest.mark.xdist_group("ray")


@pytest.fixture
def cluster():
    """A cluster whose head computes nothing, with two nodes of one worker each."""
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


@pytest.mark.long
def test_features_whose_node_is_gone_are_made_again(small, cluster, tmp_path):
    config = submission(small(resolution=256), tmp_path, name="cluster", address=cluster.address)
    start_ray(config.farm)
    plan, _ = make_plan(config, tmp_path, "cpu", threads=1)
    farm = Farm(config.farm, Machine("cpu", "CPU", 2))
    with take_part(farm, lambda workers: None) as executor:
        plan = survey(plan, executor, Silent())
        latents = torch.randn(2, 4, 32, 32, generator=torch.manual_seed(0))
        kept = executor.keep(plan, "keyframe_features", (500, [1, 3], latents, True), readers=2)
        call = (500, (0, 1), latents, [1, 3], kept, 0.6)
        ((_, before),) = executor.run(plan, "predict", [call])
        made = farm.features.passes[kept.key]
        ray.wait([reference := made.reference], fetch_local=False)
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
