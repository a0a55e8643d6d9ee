"""What stages will need, as `commands.plan` foretells it: in a process of its own, which imports what stages do."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from commands import warm
from commands.fleet.stages import Stage
from lib.base.errors import BrickyardError


@dataclass(frozen=True)
class Foretold:
    """Of stages, by name; where nobody knows, there is no entry. memory: bytes at the peak."""

    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)


@contextmanager
def asked(stages: Sequence[Stage]) -> Iterator[Callable[[], Foretold]]:
    """Begins to ask; what is yielded waits for the answer, which is empty where params.yaml is not right."""
    found, pipe = warm.found(), subprocess.PIPE
    command = [f"{found}/python" if found else sys.executable, "-m", "commands.fleet.foretold"]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as running:
        assert running.stdin is not None
        running.stdin.write("\n".join(stage.name for stage in stages))
        running.stdin.close()

        def answer() -> Foretold:
            assert running.stdout is not None
            said = running.stdout.read()
            return Foretold() if running.wait() else Foretold(**json.loads(said))

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
    try:
        print(json.dumps(vars(main(sys.stdin.read().split()))))
    except BrickyardError:
        sys.exit(1)
