"""A process that has had a farm can have another one."""

import queue

import pytest
import ray

from farm.transport import Gang

pytestmark = pytest.mark.xdist_group("ray")


@pytest.mark.parametrize("time", ["first", "second"])
def test_workers_of_a_later_farm_meet_too(time):
    """Ray keeps the group of a farm that has ended, whose workers no call reaches any more."""

    @ray.remote(enable_tensor_transport=True, num_cpus=0)
    class Worker:
        pass

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        news, errors = queue.Queue(), []
        gang = Gang("cpu", news.put)
        gang.form([Worker.remote(), Worker.remote()], lambda members, error: errors.append(error))
        news.get(timeout=120)()
        assert errors == [None]
        assert gang.whole
    finally:
        ray.shutdown()
