"""Reassembly on CIFAR-10: real images, published and self-trained networks."""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.cifar10 import work


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cifar10", description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"))
    parser.add_argument("--checkpoints", type=Path, default=Path("../shared/checkpoints"))
    parser.add_argument("--work", type=Path, default=Path(".scratch/cifar10"), help="results of parts, to go on from")
    parser.add_argument("--train-zoo", action="store_true", help="trains the heterogeneous zoo and ends")
    given = parser.parse_args()
    with work.enter(given.work, given.data, given.checkpoints):
        work.split()
        if given.train_zoo:
            for name in work.heterogeneous():
                work.network(name)


if __name__ == "__main__":
    main()
