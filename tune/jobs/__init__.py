"""Studies as jobs of a Ray cluster: the jobs server's client, the job's driver, and following one from elsewhere.

May import `tune.session` and what lies below it.
"""
