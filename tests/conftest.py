"""Every test starts from the same seed and settings, on one thread: two processes of pytest share the machine."""

import pytest
import torch

from tests import shapes

shapes.install()  # before anything of lib is imported


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first; the other process goes through the rest meanwhile, file by file, and meets those that
    need what the first has made when it is there.
    """
    items.sort(key=lambda item: item.path.name != "test_dag.py")


@pytest.fixture(autouse=True)
def _same_start() -> None:
    shapes.called.clear()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("default")  # a stage that ran in this process has changed it
