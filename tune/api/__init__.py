"""What `tune` offers to notebooks, scripts and the command line: runs, studies, data sets, exports.

May import `tune.session` and what lies below it. Prints only what a running study says.
"""
