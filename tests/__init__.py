"""The tests: a folder for each package of the source, whole studies in `end_to_end`, helpers in `support`."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The checkout."""
