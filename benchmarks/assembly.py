"""Choosing candidates: exact k-best search beside HiGHS, brute force and the authors' random search.

python -m benchmarks.assembly [--instance FILE.npz] [--save FILE.npz]

Instances are synthetic, from a seeded generator: N networks of 1-100 M parameters and 0.5-16 GMACs, whose blocks widen
from stage to stage; a stitch costs what a 1x1 convolution between their channels on the smaller grid costs; its score
is log R^2, R^2 higher between networks whose latent positions are near. Budgets are 10 M parameters and 3 GMACs, as in
the paper's DeRy(4,10,3), with K instead of 4, and two sources at least. --instance takes the same arrays from a file.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.table import Table as Printed

from lib.dery.assembly import certificate, pareto, search
from lib.dery.assembly.problem import AssemblyProblem, Table
from lib.dery.assembly.sample import random_paths

T = TypeVar("T")
POOL, RANDOM, REPEATS = 50, 500, 7
