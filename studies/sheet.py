"""A table of results: figures for machines, rows for readers; and the page that the studies share."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from lib.base import artifacts


@dataclass(frozen=True)
class Sheet:
    """title; columns; rows of text; notes under it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: str = ""

    def rich(self) -> Table:
        """For a terminal."""
        table = Table(title=self.title, caption=self.notes or None, title_justify="left", caption_justify="left")
        for i, column in enumerate(self.columns):
            table.add_column(column, justify="right" if i else "left", no_wrap=i == 0)
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For docs."""
        lines = [self.columns, ("---", *("---:" for _ in self.columns[1:])), *self.rows]
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"**{self.title}**\n\n{text}\n" + (f"\n{self.notes}\n" if self.notes else "")


@dataclass(frozen=True)
class Result:
    """What one of a study's tables found: figures for JSON, and sheets."""

    figures: dict[str, Any]
    sheets: tuple[Sheet, ...] = field(default=())

    def save(self, path: Path) -> None:
        """As JSON."""
        artifacts.write_metrics(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> "Result":
        """The inverse of `save`."""
        stored = artifacts.read_metrics(path)
        sheets = [{**s, "columns": tuple(s["columns"]), "rows": tuple(map(tuple, s["rows"]))} for s in stored["sheets"]]
        return cls(stored["figures"], tuple(Sheet(**sheet) for sheet in sheets))


def cells(values: Sequence[float | None], digits: int = 1) -> tuple[str, ...]:
    """Numbers as text, None as nothing; what rounds to zero has no sign."""
    return tuple("" if value is None else f"{value:z.{digits}f}" for value in values)


@dataclass(frozen=True)
class Page:
    """A study's part of results.md.

    docs: folder of results.md.
    study: its name.
    tables: folder of the tables as JSON.
    plots: folder of its pictures.
    """

    docs: Path
    study: str
    tables: Path
    plots: Path

    def write(self, opening: str, titles: Mapping[str, tuple[str, str]], pictures: Mapping[str, str]) -> None:
        """Writes the opening and those tables that there are; the others stay as they were.

        titles: by table, its title and the target of `dvc repro` that makes it.
        pictures: by table, the file of its picture in `plots`.
        """
        write_part(self.docs, self.study, opening)
        for number, (name, (title, target)) in enumerate(titles.items(), 1):
            if (file := self.tables / f"{name}.json").exists():
                parts = [f"### {number}. {title}\n\n`./run dvc repro {target}` in `studies/{self.study}`\n"]
                if name in pictures:
                    place = os.path.relpath(self.plots.resolve() / pictures[name], self.docs.resolve())
                    parts.append(f"![{pictures[name]}]({place})\n")
                parts += [sheet.markdown() for sheet in Result.load(file).sheets]
                write_part(self.docs, f"{self.study}-{number}", "\n".join(parts))


def write_part(docs: Path, name: str, text: str) -> None:
    """Puts what a study, or one of its tables (`study-table`), found into results.md, in place of what it had there;
    other parts stay.
    """
    page = docs / "results.md"
    marked = page.read_text(encoding="utf-8") if page.exists() else ""
    parts = dict(re.findall(r"<!-- ([\w-]+) -->\n(.*?)<!-- end -->\n", marked, flags=re.DOTALL)) | {name: text}
    body = "\n".join(f"<!-- {part} -->\n{own}<!-- end -->\n" for part, own in sorted(parts.items()))
    artifacts.write_text(page, f"# Results on CIFAR-10\n\n{body}")
