"""One session of a study: opens or resumes it, plans, searches, confirms, exports; records and shows what happens.

May import `nodes`, `export`, `report`, `search`, `study` and `trainables`.
"""
