"""What must hold between two stages, as pure polars functions: frames in, a verdict per epoch out.

Belongs here: the checks of pipeline.md §2, vectorised over a range of epochs. Does not belong here: loading frames,
Dagster (checks/ renders the verdicts), or repairing anything.
"""
