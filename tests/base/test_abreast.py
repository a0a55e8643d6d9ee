"""Several items at a time: the same results in the same order."""

import threading
from collections.abc import Iterator

import pytest
import torch

from lib.base.abreast import SMALL, abreast, width

CPU = torch.device("cpu")


def test_order_and_bits_do_not_depend_on_the_count() -> None:
    layer = torch.nn.Conv2d(3, 8, 3)
    images = list(torch.randn(7, 2, 3, 9, 9, generator=torch.Generator().manual_seed(0)))
    found = [list(abreast(layer, images, count)) for count in (2, 3, 16)]
    for one in found:
        assert len(one) == 7
        assert all(torch.equal(a, b) for a, b in zip(one, found[0], strict=True))
        assert not any(made.requires_grad for made in one)


def test_items_are_taken_as_they_are_needed() -> None:
    taken = list[int]()

    def items() -> Iterator[int]:
        for i in range(9):
            taken.append(i)
            yield i

    found = abreast(lambda i: i * i, items(), 2)
    assert [next(found), next(found)] == [0, 1]
    assert taken == [0, 1]


def test_so_many_are_worked_on_at_a_time() -> None:
    barrier = threading.Barrier(3, timeout=20)
    assert list(abreast(lambda i: (barrier.wait(), i)[1], range(6), 3)) == list(range(6))


def test_an_error_is_the_items_own() -> None:
    def failing(i: int) -> int:
        if i == 3:
            raise ValueError("three")
        return i

    with pytest.raises(ValueError, match="three"):
        list(abreast(failing, range(6), 2))


def test_large_batches_and_other_devices_have_all_threads() -> None:
    threads = torch.get_num_threads()
    assert width(CPU, SMALL) == threads
    assert width(CPU, SMALL + 1) == 1
    assert width(torch.device("cuda"), 1) == 1
