"""What can be imported: zips, folders, CSVs; which folder is a split, which a class, which file an image.

May import `trainables.dataset` only for its types. Writes nothing.
"""
