"""The measured claims of docs/results.md: each folder is a DVC project of its own, whose stages are those of the root
where these do what is needed, and small scripts that measure. They import lib and stages; nothing imports them but
tests and benchmarks.
"""
