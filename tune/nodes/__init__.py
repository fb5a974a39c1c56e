"""Ray and its nodes: joining or starting it, what each node has, what would break a study, and how this process ends.

May import `tune.study` and `trainables`.
"""
