"""Every test starts from the same seed and settings, on one thread: two processes of pytest share the machine."""

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first; the other process goes through the rest meanwhile, file by file."""
    items.sort(key=lambda item: item.path.name != "test_dag.py")


@pytest.fixture(autouse=True)
def _same_start() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("default")  # a stage that ran in this process has changed it
