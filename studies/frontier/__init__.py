"""Networks that beat the shelf they come from: ours beside every rival within one budget after another.

`./run dvc repro` here makes docs/frontier.md; `python -m benchmarks.frontier --quick` runs some of it.
"""
