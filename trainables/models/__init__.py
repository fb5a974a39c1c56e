"""The Keras models, their optimizers and their size: build, compile, restore, release.

May import `trainables.dataset` and the ground. Knows nothing of epochs or Ray.
"""
