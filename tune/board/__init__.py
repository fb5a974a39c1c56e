"""A web page that follows studies: their journals as JSON, a server on loopback, the page itself.

May import `tune.session` for the words and the table's figures, `tune.report` for the workers' timeline.
"""
