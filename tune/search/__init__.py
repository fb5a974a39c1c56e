"""What to try and when to stop: sampler, scheduler, the queue between them and Ray, the confirmation's verdict, why.

May import `tune.study`, and of `trainables` its ground and its fault kinds.
"""
