"""How a stage or a benchmark ends when something goes wrong that its user can mend."""

import errno

import pytest

from lib.errors import BrickyardError
from stages import in_one_line


def ended(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[str, int]:
    """What is said, and the exit code."""
    with pytest.raises(SystemExit) as found, in_one_line("program"):
        raise error
    code = found.value.code
    if isinstance(code, str):  # what the interpreter prints before it exits with 1
        return code, 1
    return capsys.readouterr().err.strip(), int(code or 0)


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (BrickyardError("lego.form = a\n is unknown"), "program: lego.form = a is unknown", 1),
        (OSError(errno.ENOSPC, "full"), "program: no space left on the disk; make room", 1),
        (OSError(errno.EDQUOT, "full"), "program: no space left on the disk; make room", 1),
        (KeyboardInterrupt(), "program: interrupted; run it again: what is finished is kept", 130),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    error: BaseException, said: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    line, found = ended(error, capsys)
    assert line.startswith(said)
    assert "\n" not in line
    assert found == code


@pytest.mark.parametrize("error", [ValueError("a bug"), PermissionError(errno.EACCES, "denied")])
def test_anything_else_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)), in_one_line("program"):
        raise error
