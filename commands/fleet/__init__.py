"""Stages of the DAG as tasks of Dask, side by side on one machine or many: python -m commands.fleet.

The thin glue between DVC, which knows the stages and what they depend on, and Dask, which runs tasks where there is
room: no queue, scheduler or protocol of our own.
"""
