"""Groups of workers: everybody has met everybody, also in a process's second farm."""

import itertools
import queue

import pytest
import ray

from farm.transport import Gang, rounds

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


@pytest.mark.parametrize("members", range(2, 10))
def test_everybody_meets_everybody_once_and_nobody_two_at_a_time(members):
    met = list[tuple[int, int]]()
    for pairs in rounds(members):
        assert len({member for pair in pairs for member in pair}) == 2 * len(pairs)
        met += pairs
    assert sorted(met) == list(itertools.combinations(range(members), 2))
    assert len(list(rounds(members))) == members - 1 + members % 2
