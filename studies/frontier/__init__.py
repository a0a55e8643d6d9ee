"""Networks that beat the shelf they come from: ours beside every rival within one budget after another.

No DVC project yet: `python -m benchmarks.frontier --quick` runs what is here.
"""
