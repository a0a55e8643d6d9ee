"""Stage `tables`: a table from what was measured of each item."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lib.base import artifacts
from lib.params.base import read
from lib.params.zoo import Zoo
from stages import run
from studies.mda import assemblies, budgets, choices, controls, disassembly, forms, routes
from studies.mda.params import Study
from studies.sheet import Result

TABLES: Mapping[str, Callable[[Mapping[str, Any]], Result]] = {
    "disassembly": disassembly.result,
    "assemblies": assemblies.result,
    "controls": controls.result,
    "forms": forms.result,
    "budgets": budgets.result,
    "choices": choices.result,
    "routes": routes.result,
}


def main(table: str, found: Path, metrics: Path) -> None:
    """Writes the table of a stage to `metrics`; found: the folder with what it measured, a file an item."""
    items = [*read("zoo", Zoo).models, *read("study", Study).assemblies, table]
    files = {name: found / f"{name}.json" for name in items}
    TABLES[table]({name: artifacts.read_metrics(file) for name, file in files.items() if file.exists()}).save(metrics)


if __name__ == "__main__":
    run(main)
