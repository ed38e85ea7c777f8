"""Where work starts: which categories each GPU begins with. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def home_categories(
    jobs: Mapping[str, int], gpus: Sequence[int], assign: Mapping[str, Sequence[int]]
) -> dict[int, list[str]]:
    """The categories that each GPU begins with.

    Args:
        jobs: number of jobs per category, in the experiment's order.
        gpus: the GPUs of this launch.
        assign: the experiment's own choice for some categories.

    Returns:
        For each GPU its categories, in order. Categories that `assign` does not name are
        spread by load: one GPU each in order where the numbers allow it, further GPUs to the
        category with most jobs per GPU, further categories to the GPU with least work.
    """
    home: dict[int, list[str]] = {gpu: [] for gpu in gpus}
    load: dict[int, float] = dict.fromkeys(gpus, 0.0)
    for category, count in jobs.items():
        own = [gpu for gpu in assign.get(category, ()) if gpu in home]
        for gpu in own:
            home[gpu].append(category)
            load[gpu] += count / len(own)
    free = [category for category in jobs if category not in assign]
    empty = [gpu for gpu in gpus if not home[gpu]]
    if len(free) > len(empty):
        for category in sorted(free, key=lambda category: -jobs[category]):
            gpu = min(gpus, key=lambda gpu: load[gpu])
            home[gpu].append(category)
            load[gpu] += jobs[category]
    elif free:
        shares = dict.fromkeys(free, 1)
        for _ in empty[len(free) :]:
            shares[max(free, key=lambda category: jobs[category] / shares[category])] += 1
        spread = [category for category in free for _ in range(shares[category])]
        for gpu, category in zip(empty, spread, strict=True):
            home[gpu].append(category)
    return home
