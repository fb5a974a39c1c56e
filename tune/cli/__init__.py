"""The command line: parses, calls, prints. Nobody imports it; it may import every package."""
