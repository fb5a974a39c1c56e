"""An export as an HTTP server, through Ray Serve: Ray and Serve started and drained, requests read, images classified.

May import `tune.export` for all that is done to images, and `tune.nodes` to start Ray.
"""
