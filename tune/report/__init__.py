"""What is drawn of a study: TensorBoard logs and figures.

May import `tune.study` and `search_spaces`.
"""
