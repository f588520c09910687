"""The plan of the paper: its tasks, how they are run, and their state. ``python -m experiments.plan``."""
