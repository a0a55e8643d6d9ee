from pathlib import Path

import pytest

from tests.network.made import Made, make


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Made]]:
    """A folder with one network of each kind, and the networks."""
    root = tmp_path_factory.mktemp("made")
    return root, make(root)


@pytest.fixture(scope="session")
def made(saved: tuple[Path, dict[str, Made]]) -> Path:
    """That folder."""
    return saved[0]
