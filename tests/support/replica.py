"""One of several processes that train one model: prints its first scores and the sum of its weights, as JSON.

Usage: python -m tests.support.replica ADDRESSES RANK SETUP, each as JSON: HOST:PORT of every process, the number of
this one, and what `benchmarks.trial_training.trial_setup` returns.
"""

import json
import sys
from contextlib import nullcontext

import numpy as np

from trainables.training.data_parallel import Replica, join_workers

if __name__ == "__main__":
    addresses, rank, setup = map(json.loads, sys.argv[1:])
    join_workers(addresses, rank)
    replica = Replica(setup, rank, len(addresses))
    scores = {key: value for key, value in replica.step().items() if isinstance(value, float)}
    with replica._average.in_place() if replica._average else nullcontext():
        scores["weights"] = float(sum(np.abs(one).sum(dtype=np.float64) for one in replica._model.get_weights()))
    replica.close()
    print(json.dumps(scores), flush=True)
