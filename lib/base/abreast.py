"""Several batches at a time, each by a CPU thread of its own: quicker on small maps than all threads on one batch."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import torch

S = TypeVar("S")
T = TypeVar("T")
SMALL = (
    2**22
)  # bytes of a batch of images, at most: of larger ones several at a time would take memory, and gain nothing


def width(device: torch.device, size: int) -> int:
    """How many batches of so many bytes are worked on at a time: as many as there are threads, on the CPU."""
    return torch.get_num_threads() if device.type == "cpu" and size <= SMALL else 1


def abreast(function: Callable[[S], T], items: Iterable[S], count: int) -> Iterator[T]:
    """What `function` gives for each of the items, in order, `count` of them at a time, each by one thread. Bits do not
    depend on the count, unless it is 1: then one item has all threads. Without gradients.
    """

    def alone(item: S) -> T:
        with torch.no_grad():
            return function(item)

    left = iter(items)
    if count == 1:
        yield from map(alone, left)
        return
    with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        while group := list(islice(left, count)):
            yield from pool.map(alone, group)
