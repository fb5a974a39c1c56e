"""Preprocessing methods as Albumentations pipelines, and the feed that runs them ahead of the device.

May import `trainables.dataset` and the ground. Knows nothing of Keras.
"""
