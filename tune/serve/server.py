"""Serves an export until it is told to stop: Ray and Ray Serve started, the port taken, requests drained at the end."""

from __future__ import annotations

import importlib.util
import os
import re
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tune.errors import ServeError
from tune.nodes.listening import bound_socket, url_of

_PACKAGES = ("fastapi", "uvicorn", "python_multipart")
_NAME = "emotune"
_DRAIN_S = 8.0
"""What requests have to end in after a signal; the process itself has 13 seconds."""

_AT_ONCE, _WAITING = 128, 512
"""Requests that are worked on, and those that wait beside them; more are told 503."""

_LONGEST_UPLOAD_S = 3600


def check_address(host: str, port: int) -> None:
    """Refuses to begin where the packages are missing, or the address is another's.

    Raises:
        ServeError: naming what is missing or in the way.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ServeError(
            f"emotune serve needs the package {missing[0]}. Received: none here. Install it: make setup EXTRAS=serve"
        )
    bound_socket(host, port).close()


def check_upload_timeout(seconds: float) -> None:
    """Refuses what is no time for an upload.

    Raises:
        ServeError: naming the range.
    """
    if not 1 <= seconds <= _LONGEST_UPLOAD_S:  # NaN is none
        raise ServeError(f"upload_timeout_s must be 1 to {_LONGEST_UPLOAD_S}. Received: {seconds:g}. Try 30.")


def serve_folder(folder: Path, host: str, port: int, upload_s: float, ready: Callable[[str], None]) -> None:
    """Serves an export until the process gets a signal; what has been taken by then is answered.

    Args:
        folder: The export.
        host: Address to listen at.
        port: Free port of it.
        upload_s: In which a request's image must have arrived.
        ready: Called with the server's URL when it answers.

    Raises:
        ServeError: The address is taken, a package is missing, or the model's process does not come up.
        ClusterError: Ray does not start.
        KeyboardInterrupt: After a signal, when the last answer is out.
    """
    check_address(host, port)
    import ray

    if ray.is_initialized():
        raise ServeError(
            "an export must be served by a process of its own. Received: one that has joined Ray, whose Serve it would "
            "take over. Call ray.shutdown() first, or use: emotune serve EXPORT"
        )
    from tune.nodes.join import joined_ray
    from tune.nodes.output_redirect import heard_outside, redirect_output
    from tune.serve.body_limit import proxy_environment

    os.environ.update(proxy_environment(upload_s))

    with tempfile.TemporaryDirectory() as scratch, redirect_output(Path(scratch) / "ray.log"), joined_ray("local"):
        import ray.serve

        ray.serve.start(proxy_location="HeadOnly", http_options={"host": host, "port": port})
        try:
            try:
                ray.serve.run(_application(folder.resolve()), name=_NAME)
            except RuntimeError as error:
                raise ServeError(
                    f"the model must load in a process of its own. Received: {_reason(error)}. Try: emotune doctor"
                ) from error
            with heard_outside():
                ready(url_of(host, port))
            threading.Event().wait()
        finally:
            ray.serve.delete(_NAME)  # waits for the last answers
            ray.serve.shutdown()


def _application(folder: Path) -> Any:
    from ray.serve import deployment, ingress

    def build() -> Any:
        from tune.serve.application import build_application
        from tune.serve.classifier import BatchingClassifier

        return build_application(BatchingClassifier(folder))

    served: Any = deployment(
        name="classifier",
        num_replicas=1,
        max_ongoing_requests=_AT_ONCE,
        max_queued_requests=_WAITING,
        max_constructor_retry_count=1,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=_DRAIN_S,
    )(ingress(build)())
    return served.bind()


def _reason(error: Exception) -> str:
    """Returns what the model's process said at its end; Serve's own error names only the deployment."""
    from ray.serve import status

    application = status().applications[_NAME]
    said = "\n".join(deployment.message for deployment in application.deployments.values())
    raised = re.findall(r"^\S*?(\w+(?:Error|Exception): \S.*)$", said, re.MULTILINE)
    return (raised[-1] if raised else str(error)).strip().rstrip(".")
