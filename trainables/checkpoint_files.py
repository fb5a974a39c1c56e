"""The names of the files in a trial's checkpoint folder, in the order in which `training/epochs.py` writes them."""

MODEL_FILE = "model.keras"
AVERAGE_FILE = "average.npz"
"""Only where the weights are averaged."""
STATE_FILE = "state.json"
