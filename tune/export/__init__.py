"""From the best checkpoint to a folder that classifies images, and back: export, load, predict.

May import `tune.report` for its figures, `tune.sources` for decoding images, and `trainables`.
"""
