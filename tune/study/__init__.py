"""The study: its file's model, its journal and what that adds up to, where it lies on disk or in a bucket, budget.

May import `search_spaces`, `trainables` and the ground. Starts nothing.
"""
