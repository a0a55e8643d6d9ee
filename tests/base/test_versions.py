"""versions.yaml: what is installed, and what requirements.lock says."""

from pathlib import Path

import pytest

from commands.versions import text
from lib.base import versions
from lib.base.code import ROOT
from lib.base.errors import BrickyardError


def test_the_file_is_as_the_lock_has_it() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert (ROOT / "versions.yaml").read_text() == text(lock), "python -m commands.versions"
    assert all(versions.of_lock(lock).values())
    versions.check(ROOT / "versions.yaml")


def test_several_versions_are_those_of_several_pythons() -> None:
    lock = (
        "numpy==2.4.6 ; python_full_version < '3.12' \\\n    --hash=a\nnumpy==2.5.5 ; python_full_version >= '3.12'\n"
    )
    assert versions.of_lock(lock + "numpy-extra==1\n")["numpy"] == ["2.4.6", "2.5.5"]


def test_imports_name_packages_and_what_they_compute_with() -> None:
    assert versions.of_imports(["lib.images.data", "timm.data", "PIL", "json"]) == [
        "pillow",
        "timm",
        "torch",
        "torchvision",
    ]
    assert versions.of_imports(["sklearn.datasets"]) == ["numpy", "scikit-learn", "scipy"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda text: text.replace("torch: ", "torch: 0."),
            r"torch = 0\.\S+, but \S+ is installed: run by \./run, which",
        ),
        (lambda text: text.replace("torch: ", "tortch: "), "versions.yaml: should name highspy, "),
        (lambda text: "a: [", "versions.yaml is not valid YAML"),
        (lambda text: "", "versions.yaml: should name highspy, "),
        (None, "versions.yaml not found: run from the root of the repository"),
    ],
)
def test_other_versions_are_refused_in_one_line(change, said: str, tmp_path: Path) -> None:
    file = tmp_path / "versions.yaml"
    if change is not None:
        file.write_text(change((ROOT / "versions.yaml").read_text()))
    with pytest.raises(BrickyardError, match=said):
        versions.check(file)
