"""One of several processes that train one model: prints its scores of the first epoch as JSON.

Usage: python -m tests.support.replica ADDRESSES RANK SETUP, each as JSON: HOST:PORT of every process, the number of
this one, and what `benchmarks.trial_training.trial_setup` returns.
"""

import json
import sys

from trainables.training.data_parallel import Replica, join_workers

if __name__ == "__main__":
    addresses, rank, setup = map(json.loads, sys.argv[1:])
    join_workers(addresses, rank)
    replica = Replica(setup, rank, len(addresses))
    scores = {key: value for key, value in replica.step().items() if isinstance(value, float)}
    replica.close()
    print(json.dumps(scores), flush=True)
