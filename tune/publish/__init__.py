"""Sends an export to where people share models: buckets, the Hugging Face Hub, MLflow. Imports `export` and `study`.

What is sent has been compared with its manifest before; nothing here changes an export.
"""
