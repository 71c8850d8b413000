"""What a worker tells of itself, and how keyframe features travel."""

import os
import time
from types import SimpleNamespace

import numpy as np
import pytest
import ray
import torch

from farm import crew, dispatcher
from farm.config import FarmConfig
from farm.machine import Machine, start_ray, stop_ray
from farm.worker import RenderWorker, Sent, pack, receive, send, unpack


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_features_travel_as_bytes_and_arrive_as_they_were(dtype):
    tokens = torch.randn(2, 3, 5, 4, generator=torch.manual_seed(0)).to(getattr(torch, dtype)).transpose(1, 2)
    array = pack(tokens)
    assert (array.dtype, array.nbytes) == (np.uint8, tokens.nbytes)
    array.flags.writeable = False  # as in shared memory
    plan = SimpleNamespace(dtype=dtype, device="cpu")
    assert all(torch.equal(found, tokens) for found in unpack((array, array), plan))
    assert unpack((tokens, tokens), plan) == (tokens, tokens), "tensors travel as they are"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bool, torch.int64])
def test_tensors_travel_as_what_they_show_and_arrive_as_they_were(dtype):
    whole = torch.randn(100, 4, 8, 8, generator=torch.manual_seed(0)).to(dtype)
    part = whole[2:4]
    data = ray.cloudpickle.dumps(send(part))
    assert len(data) < part.nbytes + 1000 < whole.nbytes
    found = receive(ray.cloudpickle.loads(data))
    assert (found.dtype, torch.equal(found, part)) == (dtype, True)
    assert receive(send((3, None))) == (3, None), "everything else as it is"


def test_nobody_writes_to_shared_memory():
    array = np.zeros(3, np.float32)
    array.flags.writeable = False  # as Ray has it
    receive(Sent(array)).add_(1)
    assert not array.any()


def test_a_worker_tells_how_full_its_gpu_is(monkeypatch):
    assert RenderWorker().where().keys() == {"pid", "node"}
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (130 << 30, 139 << 30))
    where = RenderWorker().where()
    assert (where["pid"], where["memory"], where["capacity"]) == (os.getpid(), 9 << 30, 139 << 30)


@pytest.mark.long
def test_the_farm_asks_its_workers_now_and_then(monkeypatch):
    class Growing(RenderWorker):
        asked = 0

        def where(self):
            self.asked += 1
            return super().where() | {"memory": self.asked, "capacity": 9}

    monkeypatch.setattr(dispatcher, "RenderWorker", Growing)
    monkeypatch.setattr(crew, "INQUIRY", 0.1)
    monkeypatch.setattr(dispatcher, "TICK", 0.1)
    heard = []
    start_ray(FarmConfig(workers=1, threads=1))
    try:
        farm = dispatcher.Farm(FarmConfig(threads=1), Machine("cpu", "CPU", 1))
        farm.enter(lambda workers: heard.extend(worker["memory"] for worker in workers), lambda line: None)
        end = time.monotonic() + 180
        while max(heard, default=0) < 3 and time.monotonic() < end:
            time.sleep(0.05)
        farm.close()
    finally:
        stop_ray()
    assert sorted(set(heard))[:3] == [1, 2, 3]
