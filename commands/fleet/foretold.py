"""What stages will need, as `commands.plan` foretells it: in a process of its own, which imports what stages do."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from commands import in_one_line, warm
from commands.fleet.board import say
from commands.fleet.stages import Stage


@dataclass(frozen=True)
class Foretold:
    """Of stages, by name; where nobody knows, there is no entry. memory: bytes at the peak."""

    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)


@contextmanager
def asked(stages: Sequence[Stage]) -> Iterator[Callable[[], Foretold]]:
    """Begins to ask; what is yielded waits for the answer. Where there is none, a line says why: stages then run as if
    they needed nothing.
    """
    found, pipe = warm.found(), subprocess.PIPE
    command = [f"{found}/python" if found else sys.executable, "-m", "commands.fleet.foretold"]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as running:
        assert running.stdin is not None
        running.stdin.write("\n".join(stage.name for stage in stages))
        running.stdin.close()
        running.stdin = None  # nothing more to tell: `communicate` would flush it

        def answer() -> Foretold:
            said, wrong = running.communicate()
            if running.returncode == 0:
                return Foretold(**json.loads(said))
            *_, last = wrong.splitlines() or ["it was ended"]
            say(f"nothing is foretold of what stages need: {last}")
            return Foretold()

        try:
            yield answer
        finally:
            running.kill()


def main(names: Sequence[str]) -> Foretold:
    """Raises BrickyardError where params.yaml, or a network that it names, is not right."""
    from commands.plan import needs

    found = needs(names)
    seconds = {name: one.seconds for name, one in found.items() if one.seconds is not None}
    return Foretold(seconds, {name: int(one.memory) for name, one in found.items() if one.memory is not None})


if __name__ == "__main__":
    with in_one_line("plan"):
        print(json.dumps(vars(main(sys.stdin.read().split()))))
