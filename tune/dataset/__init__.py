"""Data sets for people: import, drawn faces, download, quality report, preview.

May import `tune.sources` and `trainables`.
"""
