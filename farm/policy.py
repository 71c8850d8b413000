"""Who computes what: which render a worker belongs to, and which call an idle worker takes next.

Pure functions of what is ready: no Ray, no clock, no costs. Two levels of sharding come out of one rule. Every worker has a
*home* render and serves it first. With as many renders as workers each has one worker, and nothing is exchanged between
workers; with fewer, the workers of one render are its gang. Whoever finds nothing to do at home (its keyframe pass runs on
another worker, the driver steps the sampler, files are written) turns to its *second* render, if there are more renders than
workers, and only then steals a call of another one, whose keyframe features have to travel for it.
"""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Call:
    """A call that is ready to run, on any worker.

    render: its number in order of submission. keyframes: whether it is a keyframe pass, for which all chunks of its step
    wait. order: its place among the calls of its render, lower first. model: what a worker must have loaded to run it;
    None where it needs no model (survey, G-buffers).
    """

    render: int
    keyframes: bool
    order: int
    model: Hashable


def in_flight(workers: int) -> int:
    """How many renders run at once: two per worker, so that each has another while its home waits, and one that sets up.

    Renders of the same length come to write their files together. One render more than workers would be the only one to
    go on then: with 8 workers and short clips that leaves a fifth of their time unused.

    >>> in_flight(1), in_flight(4)
    (3, 9)
    """
    return 2 * workers + 1


def allot(renders: Sequence[int], workers: Sequence[Hashable], homes: Mapping[Hashable, int]) -> dict[Hashable, int]:
    """The home render of every worker, whenever a render begins or ends or a worker comes or goes.

    renders: those in flight, in order of submission. The workers are shared out as evenly as possible, what is left over
    to the earliest: with more renders than workers the first ones have a worker each, so that a person sees something
    early, and the others wait for what is stolen for them. homes: as they were; a worker stays where it is if that render's
    share allows it, as its caches are warm there. Empty if nothing is in flight.

    >>> allot([0, 1, 2], ["a", "b"], {})
    {'a': 0, 'b': 1}
    >>> allot([1, 2], ["a", "b", "c"], {"a": 0, "b": 1, "c": 2})
    {'b': 1, 'c': 2, 'a': 1}
    """
    vacant = {render: len(workers[position :: len(renders)]) for position, render in enumerate(renders)}
    allotted: dict[Hashable, int] = {}
    for worker in workers:
        if worker in homes and vacant.get(homes[worker], 0) > 0:
            allotted[worker] = homes[worker]
            vacant[homes[worker]] -= 1
    places = (render for render in renders for _ in range(vacant[render]))
    return allotted | dict(zip((worker for worker in workers if worker not in allotted), places, strict=False))


def allot_seconds(
    renders: Sequence[int], workers: Sequence[Hashable], seconds: Mapping[Hashable, int]
) -> dict[Hashable, int]:
    """The second render of every worker, of those that have no worker of their own; as `allot`.

    >>> allot_seconds([0, 1, 2, 3, 4], ["a", "b"], {})
    {'a': 2, 'b': 3}
    """
    homeless = renders[len(workers) : 2 * len(workers)]
    return allot(homeless, workers[: len(homeless)], seconds)


def shares(workers: int, wishes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """How many workers of a cluster each submission may have: higher priorities first, equal ones as evenly as their wishes
    allow, what is left over to those that came first.

    wishes: (priority, workers that it could use) of each, in the order in which they came.

    >>> shares(8, {"a": (0, 8), "b": (1, 3), "c": (0, 2)})
    {'a': 3, 'b': 3, 'c': 2}
    """
    granted = dict.fromkeys(wishes, 0)
    for level in sorted({priority for priority, _ in wishes.values()}, reverse=True):
        hungry = [name for name, (priority, _) in wishes.items() if priority == level]
        while workers and (hungry := [name for name in hungry if granted[name] < wishes[name][1]]):
            for name in hungry[:workers]:
                granted[name] += 1
            workers -= len(hungry[:workers])
    return granted


def choose(
    worker: Hashable,
    calls: Sequence[Call],
    homes: Mapping[Hashable, int],
    seconds: Mapping[Hashable, int],
    loaded: Mapping[Hashable, Hashable],
    blocked: Collection[int] = (),
    held: Mapping[Call, Collection[Hashable]] = MappingProxyType({}),
) -> Call | None:
    """The call that an idle worker takes, or None: its home's keyframe pass, its home's chunks in order, the same of its second
    render, a stolen one.

    loaded: the model that each worker has in memory. Of other renders' calls, keyframe passes go first, as more waits for
    them, and then earlier renders. A stolen chunk is finished before the home goes on, which is what keeping everybody busy
    costs the earliest render: at most one foreign chunk at each of its barriers.

    held: of calls that read keyframe features, which workers have these. What would make features travel is stolen last: a chunk
    whose features are elsewhere, and the keyframe pass of a render that another worker does anyway.

    Nothing is stolen that would make the worker load another model. Loading takes seconds to minutes, as long as hundreds
    of chunks, and puts out the model that its home asks for again a moment later; what stealing fills is the moment. A
    worker loads another model only for a new home, where it pays for the rest of a render. No render starves of this:
    it comes to be among the first, which have workers of their own. A worker without a home has nothing to lose and takes
    anything, what fits its model first.

    blocked: renders that wait for room for their features. What has taken it may need a model that nobody has loaded: it would wait
    for a worker, and that worker's home for the room. So a worker whose home is blocked loads such a model.

    Where the call needs a model that is not loaded, let the worker load it *without the call*, and ask again: else the gang
    that it joins waits at its next barrier for a chunk that any other could have computed meanwhile.

    >>> calls = [Call(0, False, 1, "m"), Call(0, False, 0, "m"), Call(1, True, 0, "m"), Call(2, True, 0, "n")]
    >>> choose("a", calls, {"a": 0}, {}, {"a": "m"}).order, choose("b", calls, {"b": 3}, {}, {"b": "m"}).render
    (0, 1)
    """
    at_home = [call for call in calls if call.render == homes.get(worker)]
    if at_home:
        return min(at_home, key=_urgency)
    fitting = [call for call in calls if call.model in (None, loaded.get(worker))]
    if not fitting and worker not in homes:
        fitting = list(calls)
    if not fitting and homes.get(worker) in blocked:
        fitting = [call for call in calls if call.model not in loaded.values()]
    served = {render for at in (homes, seconds) for other, render in at.items() if other != worker}

    def rank(call: Call) -> tuple:
        travels = worker not in held[call] if call in held else call.keyframes and call.render in served
        return call.render != seconds.get(worker), travels, *_urgency(call)

    return min(fitting, key=rank, default=None)


def _urgency(call: Call) -> tuple[bool, int, int]:
    return not call.keyframes, call.render, call.order
