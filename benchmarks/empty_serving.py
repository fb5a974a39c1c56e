"""A Ray Serve application that answers and does nothing: what any request through Ray Serve takes on this machine.

`python -m benchmarks.empty_serving PORT`; `benchmarks/serving.py` asks it.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from fastapi import FastAPI, Request


def application() -> FastAPI:
    """Returns the application: it reads the body, and its answer has the form of a prediction."""
    app = FastAPI()

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        return {"label": str(len(await request.body())), "probabilities": {}}

    return app


def main() -> None:
    """Serves until it is killed."""
    import ray
    import ray.serve

    class Empty:
        pass

    ray.init(include_dashboard=False)
    port = int(sys.argv[1])
    ray.serve.start(http_options={"host": "127.0.0.1", "port": port})
    served: Any = ray.serve.deployment(max_ongoing_requests=128)(ray.serve.ingress(application())(Empty))
    ray.serve.run(served.bind())
    print(f"is served: http://127.0.0.1:{port}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
