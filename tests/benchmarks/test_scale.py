"""The model of the scheduler, on jobs whose schedules can be written down, and the evidence for the fleet."""

import pytest

from benchmarks.scale import fleet
from benchmarks.scale.simulation import bound, grown, longest, simulate
from commands.fleet.stages import Stage

DIAMOND = [Stage("a", ()), Stage("b", ("a",)), Stage("c", ("a",)), Stage("d", ("b", "c"))]
TOOK = {"a": 1.0, "b": 2.0, "c": 5.0, "d": 1.0}
APART = [Stage("x", ()), Stage("y", ()), Stage("z", ())]


def test_a_diamond_takes_its_longest_way() -> None:
    assert simulate(DIAMOND, TOOK, 1).seconds == 9
    two = simulate(DIAMOND, TOOK, 2)
    assert (two.seconds, two.efficiency) == (7, 9 / 14)
    assert simulate(DIAMOND, TOOK, 64).seconds == 7
    assert [bound(DIAMOND, TOOK, workers) for workers in (1, 2)] == [9, 7]
    assert longest(DIAMOND, TOOK) == ["a", "c", "d"]


def test_the_urgent_go_first() -> None:
    """b, which a long one follows, before c, which is longer itself: 1 + 3 on one worker, 2 + 2 on the other."""
    stages = [Stage("b", ()), Stage("c", ()), Stage("e", ()), Stage("d", ("b",))]
    took = {"b": 1.0, "c": 2.0, "e": 2.0, "d": 3.0}
    assert simulate(stages, took, 2).seconds == 4
    assert bound(stages, took, 2) == 4


def test_of_three_on_two_workers_one_waits() -> None:
    took = {"x": 3.0, "y": 3.0, "z": 2.0}
    assert simulate(APART, took, 2).seconds == 5
    assert bound(APART, took, 2) == 4


def test_a_lock_lets_one_begin_after_the_other() -> None:
    """x from 1 to 4, y from 2 to 5; z, which can begin at 4, from 5 to 7."""
    found = simulate(APART, {"x": 3.0, "y": 3.0, "z": 2.0}, 2, lock=1)
    assert (found.seconds, found.held, found.efficiency) == (7, 3 / 7, 8 / 14)
    assert simulate(APART, dict.fromkeys("xyz", 1.0), 64, lock=1).seconds == 4


def test_a_larger_job_has_more_items_and_larger_fan_ins() -> None:
    small = {"zoo@a": 2.0, "zoo@b": 4.0, "edges@a": 1.0, "similarity": 3.0}
    stages = [Stage(f"zoo@{i}", ()) for i in range(4)]
    stages += [Stage("similarity", tuple(stage.name for stage in stages)), Stage("edges@0", ("similarity",))]
    assert grown(stages, small, 2) == {**{f"zoo@{i}": 3.0 for i in range(4)}, "similarity": 12.0, "edges@0": 2.0}
    assert grown(stages, small, 2, {})["similarity"] == 3.0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("clones", [False, True])
def test_a_worker_that_is_killed_costs_no_bit(clones: bool) -> None:
    found = fleet.lost_worker(clones)
    assert found.same_hashes
    assert found.killed != found.finished
