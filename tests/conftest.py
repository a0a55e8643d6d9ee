"""Every test starts from the same seed and settings, on one thread: two processes of pytest share the machine."""

import pytest
import torch

from tests import shapes

shapes.install()  # before anything of lib is imported


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first; the other process goes through the rest meanwhile, file by file, and ends with those
    that need what the first has made.
    """
    files = {"stages/test_dag.py": 0, "stages/test_bricks.py": 2, "stages/test_faults.py": 2}
    items.sort(key=lambda item: files.get(f"{item.path.parent.name}/{item.path.name}", 1))


@pytest.fixture(autouse=True)
def _same_start() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("default")  # a stage that ran in this process has changed it
