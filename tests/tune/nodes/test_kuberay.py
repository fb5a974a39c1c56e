"""How large a cluster of KubeRay may grow, asked of a Kubernetes server over TLS: the outside network's stand-in."""

from __future__ import annotations

import http.server
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from tests import ROOT

ASK = "from tune.nodes.autoscaler import node_types, read_config as read; c = read(':1'); print(c and node_types(c))"


def ray_cluster(**spec: Any) -> dict[str, Any]:
    raw: dict[str, Any] = yaml.safe_load((ROOT / "clusters/kuberay.yaml").read_text())
    raw["metadata"]["namespace"] = "vision"
    raw["spec"].update(spec)
    return raw


@contextmanager
def kubernetes(folder: Path, cluster: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Serves one RayCluster; yields the environment of a process in its head's pod."""

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/apis/ray.io/v1/namespaces/vision/rayclusters/emotune"
            self.send_response(200 if found else 403)
            self.end_headers()
            self.wfile.write(json.dumps(cluster if found else {}).encode())

        def log_message(self, *arguments: object) -> None:
            pass

    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued = authority.issue_cert("127.0.0.1")
    issued.configure_cert(context)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "client.pem")
    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {
            **os.environ,
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT_HTTPS": str(server.server_port),
            "RAY_KUBERAY_CA_CERT_PATH": str(folder / "ca.pem"),
            "RAY_KUBERAY_CLIENT_CERT_PATH": str(folder / "client.pem"),
            "RAY_KUBERAY_CLIENT_KEY_PATH": str(folder / "client.pem"),
            "RAY_CLUSTER_NAME": "emotune",
            "RAY_CLUSTER_NAMESPACE": "vision",
        }
        server.shutdown()


def ask(environment: dict[str, str]) -> str:
    command = [sys.executable, "-c", ASK]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_what_a_raycluster_may_grow_to_is_read_from_kubernetes(tmp_path: Path) -> None:
    with kubernetes(tmp_path, ray_cluster()) as environment:
        assert (
            ask(environment)
            == "((AutoscaledNodeType(name='gpu', capacity=NodeCapacity(cpus=8.0, gpus=1.0), max_nodes=8),), 8)"
        )


@pytest.mark.parametrize("change", [{"enableInTreeAutoscaling": False}, {}])
def test_a_raycluster_that_does_not_grow_or_cannot_be_read_says_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    with kubernetes(tmp_path, ray_cluster(**change)) as environment:
        named = {} if change else {"RAY_CLUSTER_NAME": "anothers"}
        assert ask({**environment, **named}) == "None"
