"""The data set on disk: its Arrow schema and reader, writer, folds, face boxes, and the copy that a node keeps.

May import only the ground of `trainables` (errors, config, places, atomic_folder). Knows no model and no study.
"""
