"""Submissions that share a cluster: who gets how many workers, and that no pixel depends on it."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import ray
import torch
from conftest import QUIET
from hypothesis import given
from hypothesis import strategies as st
from test_transport import Opened, wait_for

from farm import broker
from farm.broker import NAME, Broker, Standing
from farm.policy import shares
from renderer.plan import make_plan
from renderer.render import InlineExecutor, denoise, survey

pytestmark = pytest.mark.xdist_group("ray")

WISHES = st.dictionaries(st.text(max_size=3), st.tuples(st.integers(-3, 3), st.integers(0, 9)), max_size=6)


@given(st.integers(0, 20), WISHES)
def test_shares(workers, wishes):
    granted = shares(workers, wishes)
    assert sum(granted.values()) == min(workers, sum(wanted for _, wanted in wishes.values()))
    for name, (priority, wanted) in wishes.items():
        assert 0 <= granted[name] <= wanted
        if granted[name] < wanted:  # whoever has less than it could use has at most one less than its equals
            for other, (its, _) in wishes.items():
                assert granted[other] == 0 or its >= priority
                assert its != priority or granted[other] <= granted[name] + 1


def test_whoever_is_silent_counts_as_gone(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(broker.time, "monotonic", lambda: clock[0])
    book = Broker()
    assert book.claim("a", 1, 2, workers=2) == 2
    assert book.claim("b", 0, 2, workers=2) == 0
    clock[0] = broker.LEASE + 1
    assert book.claim("b", 0, 2, workers=2) == 2
    clock[0] += broker.LEASE + 1
    assert book.claim("c", 0, 2, workers=2) == 2
    clock[0] += 1
    assert book.leave("c"), "b, silent for longer than its lease, keeps no broker alive"


@pytest.fixture
def cluster():
    """One worker fits."""
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def pids(opened):
    return [seat.address["pid"] for seat in opened.farm.seats if seat.address]


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def is_known(name):
    try:
        ray.get_actor(name, namespace=name)
    except ValueError:
        return False
    return True


@pytest.mark.long
def test_a_pause_frees_the_workers_and_the_more_urgent_gets_them_first(cluster, small, tmp_path, monkeypatch):
    monkeypatch.setattr(broker, "INTERVAL", 0.2)
    plan, _ = make_plan(small(frames=6, chunk=1, steps=12), tmp_path, "cpu", threads=1)
    plan = survey(plan, InlineExecutor(), QUIET)
    undisturbed = denoise(plan, InlineExecutor(), QUIET)
    standing = Standing()
    with Opened(1, standing, name="cluster") as first, ThreadPoolExecutor(1) as pool:
        found = pool.submit(denoise, plan, first.executor, QUIET)
        wait_for(lambda: first.farm.seats[0].task)
        before = pids(first)
        standing.paused = True
        wait_for(lambda: all(map(is_gone, before)))
        assert pids(first) == []
        assert not found.done()
        with Opened(1, Standing(priority=1), name="cluster") as second:
            standing.paused = False
            assert torch.equal(denoise(plan, second.executor, QUIET), undisturbed)
            assert pids(first) == []
        assert torch.equal(found.result(timeout=240), undisturbed)
        assert len(pids(first)) == 1
    wait_for(lambda: not is_known(NAME))
