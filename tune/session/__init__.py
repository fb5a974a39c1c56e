"""One session of a study: opens or resumes it, plans, searches, confirms, exports; records and shows what happens.

May import `export`, `report`, `search`, `nodes`, `study`, `dataset` and what lies below them, not `cli` and `jobs`.
"""
