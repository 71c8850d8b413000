"""How keyframe features travel."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from farm.worker import pack, unpack


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_features_travel_as_bytes_and_arrive_as_they_were(dtype):
    tokens = torch.randn(2, 3, 5, 4, generator=torch.manual_seed(0)).to(getattr(torch, dtype)).transpose(1, 2)
    array = pack(tokens)
    assert (array.dtype, array.nbytes) == (np.uint8, tokens.nbytes)
    array.flags.writeable = False  # as in shared memory
    assert torch.equal(unpack(array, SimpleNamespace(dtype=dtype, device="cpu")), tokens)
