"""One trial: its epochs, metrics and faults, as a Ray Tune trainable and as a worker of Ray Train; its calibration.

May import every other package of `trainables`, never `tune`.
"""
