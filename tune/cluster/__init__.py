"""Checks of cluster files before they cost anything: shape, AWS, Google Cloud, Kubernetes, machine types and prices.

Stands alone on the study file's reader.
"""
