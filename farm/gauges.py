"""Numbers for Prometheus, through Ray: where `ray[default]` is installed, each node exports them; elsewhere nobody looks."""

from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any, get_args

from farm.records import State

SECONDS = (0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)  # upper ends of the histogram's buckets

renders = dict.fromkeys(get_args(State), 0)


@cache
def metric(kind: str, name: str, description: str, tag: str | None = None, **options: Any) -> Any:
    from ray.util import metrics

    return getattr(metrics, kind)(name, description, tag_keys=(tag,) if tag else None, **options)


def call_ended(method: str, arguments: tuple, seconds: float, failed: bool) -> None:
    """A worker has answered a call of a FrameRenderer's method, or died at it."""
    if failed:
        metric("Counter", "farm_calls_failed", "calls that went wrong, by method", "method").inc(1, {"method": method})
        return
    metric("Histogram", "farm_call_seconds", "how long calls take, by method", "method", boundaries=SECONDS).observe(
        seconds, {"method": method}
    )
    if method == "decode":
        metric("Counter", "farm_frames_finished", "frames whose picture is written").inc(len(arguments[0]))


def farm_stands(workers: int, features: int) -> None:
    """So many workers are up, and live keyframe features take so many bytes; the renders as they were last told."""
    metric("Gauge", "farm_workers", "workers that are up").set(workers)
    metric("Gauge", "farm_feature_bytes", "bytes of live keyframe features").set(features)
    for state, number in renders.items():
        metric("Gauge", "farm_renders", "renders of the submission, by state", "state").set(number, {"state": state})


def renders_stand(states: Iterable[str]) -> None:
    """The state of each render of this process's submission; told also before there is any Ray."""
    renders.update(dict.fromkeys(renders, 0) | Counter(states))
