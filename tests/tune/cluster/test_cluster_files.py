"""The cluster files that are shipped are in order; a wrong one has one line that says where, what and how to fix."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import ROOT
from tune.cli.main import command_line as main
from tune.cluster.check import check_cluster
from tune.cluster.versions import Versions, installs_the_lock, locked_versions, other_versions

FILES = ("cluster.yaml", "clusters/gcp.yaml", "clusters/on-premise.yaml", "clusters/kuberay.yaml")
FILLED = {
    "sg-FILL-IN": "sg-0123456789abcdef0",
    "FILL-IN-PROJECT": "my-project",
    "FILL-IN-HEAD": "192.168.1.10",
    "FILL-IN-WORKER-1": "192.168.1.11",
    "FILL-IN-WORKER-2": "192.168.1.12",
    "FILL-IN-USER": "me",
    "FILL-IN-REGISTRY": "registry.example.org/team",
}
Change = Callable[[dict[str, Any]], object]


def filled(name: str) -> str:
    text = (ROOT / name).read_text()
    for placeholder, value in FILLED.items():
        text = text.replace(placeholder, value)
    return text


def problems(name: str, change: Change, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the check says of a shipped file, filled in, after a change to it."""
    raw = json.loads(json.dumps(yaml.safe_load(filled(name))))  # what the node types share becomes each one's own
    change(raw)
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    packages = {"ray": "2.60.0", "emotune": "0.2.0"}
    lock = "".join(f'[[package]]\nname = "{name}"\nversion = "{version}"\n' for name, version in packages.items())
    (folder / "uv.lock").write_text(lock)
    monkeypatch.chdir(ROOT)
    return check_cluster(path).problems


def check(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Runs `emotune cluster check`; returns the exit code and what it printed."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["emotune", "cluster", "check", str(path)])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


@pytest.mark.parametrize("name", FILES)
def test_shipped_file_is_in_order_once_it_is_filled_in(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, complaints = check(ROOT / name, monkeypatch, capsys)
    placeholders = set(re.findall(r"FILL-IN[A-Z0-9-]*", yaml.safe_dump(yaml.safe_load((ROOT / name).read_text()))))
    assert code == 2 and len(complaints.splitlines()) == len(placeholders)
    assert all("must be filled in" in line for line in complaints.splitlines())

    path = tmp_path / "filled.yaml"
    path.write_text(filled(name))
    (tmp_path / "uv.lock").write_bytes((ROOT / "uv.lock").read_bytes())
    code, said, complaints = check(path, monkeypatch, capsys)
    assert code == 0 and not complaints, complaints
    assert "is in order" in said and "versions: Ray 2.60.0 and emotune 0.2.0 on every node, as in uv.lock" in said
    assert "price: " in said or "machines of one's own" in said


def test_a_price_in_a_header_is_the_price_that_is_computed() -> None:
    for name in ("cluster.yaml", "clusters/gcp.yaml"):
        header = re.search(r"Price:  \$([\d.]+) an hour without workers; at most \$([\d.]+)", (ROOT / name).read_text())
        [price] = [line for line in check_cluster(ROOT / name).summary if line.startswith("price")]
        assert header and f"${header[1]} to ${header[2]} an hour" in price


def at(raw: dict[str, Any], *keys: str | int) -> Any:
    for key in keys:
        raw = raw[key]  # type: ignore[index]
    return raw


SPOT = ("available_node_types", "gpu-spot")
AWS: list[tuple[str, Change, str]] = [
    (
        "a key of Ray's schema is misspelt",
        lambda raw: raw.update(max_worker=raw.pop("max_workers")),
        r"max_worker: must be a key that Ray's schema knows. Did you mean 'max_workers'\?.*changed.yaml, line",
    ),
    (
        "a value has the wrong type",
        lambda raw: at(raw, *SPOT).update(min_workers="none"),
        r"available_node_types.gpu-spot.min_workers: must be a whole number. Received: 'none'",
    ),
    (
        "a key of the provider is misspelt",
        lambda raw: raw["provider"].update(cache_stoped_nodes=raw["provider"].pop("cache_stopped_nodes")),
        r"provider.cache_stoped_nodes: must be a key that Ray's schema knows. Did you mean 'cache_stopped_nodes'\?",
    ),
    (
        "docker without a container's name",
        lambda raw: raw.update(docker={"image": "rayproject/ray:2.60.0"}),
        r"Must provide a container & image name",
    ),
    (
        "a cluster's name of two lines",
        lambda raw: raw.update(cluster_name="a\nb"),
        r"cluster_name: must be letters, digits and -_., at most 60. Received: 'a\\nb'",
    ),
    (
        "a market that is none",
        lambda raw: at(raw, *SPOT, "node_config", "InstanceMarketOptions").update(MarketType="spott"),
        r"MarketType: must be one of EC2's words. Received: 'spott'. Did you mean 'spot'\?",
    ),
    (
        "resources in small letters",
        lambda raw: at(raw, *SPOT).update(resources={"cpu": 8, "GPU": 1}),
        r"gpu-spot.resources.cpu: must be in capitals: Ray counts another. Write CPU",
    ),
    (
        "the head's type does not exist",
        lambda raw: raw.update(head_node_type="main"),
        r"`head_node_type` must be one of `available_node_types`",
    ),
    (
        "a cloud that is not known",
        lambda raw: raw["provider"].update(type="awz"),
        r"provider.type: must be a provider that is checked here. Received: 'awz'. Did you mean 'aws'\?",
    ),
    (
        "a key inside node_config is misspelt",
        lambda raw: at(raw, *SPOT, "node_config").update(InstanceMarketOption={}),
        r"InstanceMarketOption: must be a key of EC2's RunInstances. Did you mean 'InstanceMarketOptions'\?",
    ),
    (
        "a key deep inside node_config is misspelt",
        lambda raw: at(raw, *SPOT, "node_config", "BlockDeviceMappings", 0, "Ebs").update(VolumeTyp="gp3"),
        r"BlockDeviceMappings.0.Ebs.VolumeTyp: must be a key of EC2's RunInstances. Did you mean 'VolumeType'\?",
    ),
    (
        "a value inside node_config has the wrong type",
        lambda raw: at(raw, *SPOT, "node_config", "BlockDeviceMappings", 0, "Ebs").update(VolumeSize="150"),
        r"gpu-spot.node_config: Invalid type for parameter BlockDeviceMappings\[0\].Ebs.VolumeSize",
    ),
    (
        "a machine type does not exist",
        lambda raw: at(raw, *SPOT, "node_config").update(InstanceType="g6.2xlarg"),
        r"InstanceType: must be a machine type whose price and GPUs are known. Received: 'g6.2xlarg'. Did you mean 'g6",
    ),
    (
        "a worker has fewer GPUs than it promises",
        lambda raw: at(raw, *SPOT, "resources").update(GPU=4),
        r"gpu-spot.resources.GPU: must be the 1 that the machine has \(8 vCPUs, 1 L4 of 24 GiB\). Received: 4. Write",
    ),
    (
        "no GPU where one is promised",
        lambda raw: at(raw, *SPOT, "node_config").update(InstanceType="m5.2xlarge"),
        r"gpu-spot.resources.GPU: must be the 0 that the machine has \(8 vCPUs\). Received: 1",
    ),
    (
        "no image",
        lambda raw: at(raw, *SPOT, "node_config").pop("ImageId"),
        r"gpu-spot.node_config: ImageId must be set: Ray's own choice is an Ubuntu 18.04 of 2022",
    ),
    (
        "an image that moves",
        lambda raw: at(raw, *SPOT, "node_config").update(ImageId="resolve:ssm:/aws/service/deeplearning/latest/ami-id"),
        r"ImageId: must be one image for ever. Received: 'resolve:ssm:.*Name it by id",
    ),
    (
        "an image of another region",
        lambda raw: raw["provider"].update(region="eu-central-1"),
        r"ImageId: must be an image of eu-central-1. Received: ami-028357be7d5b15c53, of us-east-1",
    ),
    (
        "workers cannot write the storage",
        lambda raw: at(raw, *SPOT, "node_config").pop("IamInstanceProfile"),
        r"gpu-spot.node_config: must have an IamInstanceProfile: Ray gives none to workers.*name emotune-worker",
    ),
    (
        "the head may not launch workers that have a profile",
        lambda raw: at(raw, "available_node_types", "head", "node_config").pop("IamInstanceProfile"),
        r"head.node_config: must have an IamInstanceProfile: .*iam:PassRole.*name emotune-head",
    ),
    (
        "SSH is open to the world, by default",
        lambda raw: at(raw, *SPOT, "node_config").pop("SecurityGroupIds"),
        r"gpu-spot.node_config: must name its SecurityGroupIds: the group that Ray makes opens SSH to 0.0.0.0/0",
    ),
    (
        "a port is open to the world, by rule",
        lambda raw: raw["provider"].update(
            security_group={"IpPermissions": [{"FromPort": 8265, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]}
        ),
        r"IpPermissions.0: must not open a port to the whole world. Received: 0.0.0.0/0",
    ),
    (
        "the disk is too small",
        lambda raw: at(raw, *SPOT, "node_config", "BlockDeviceMappings", 0, "Ebs").update(VolumeSize=40),
        r"gpu-spot.node_config: must have a disk of 100 GB: image, environment, data sets. Received: 40 GB",
    ),
    (
        "a disk that no cloud has",
        lambda raw: at(raw, *SPOT, "node_config", "BlockDeviceMappings", 0, "Ebs").update(VolumeSize=10**12),
        r"gpu-spot.node_config: must have disks of at most 65536 GB, the largest there are. Received: 1e\+12 GB. Lower",
    ),
    (
        "more workers than any cluster has",
        lambda raw: raw.update(max_workers=10**26),
        r"max_workers: must be at most 10000. Received: 10{26}. Lower it",
    ),
    (
        "a speed that is no number",
        lambda raw: raw.update(upscaling_speed=float("nan")),
        r"upscaling_speed: must be a number above 0. Received: nan. Write 100",
    ),
    (
        "the head runs trials, by its resources",
        lambda raw: at(raw, "available_node_types", "head").update(resources={"CPU": 4}),
        r"head.resources: CPU must be 0: a trial on the head takes the driver down with it. Received: 4",
    ),
    (
        "the head runs trials, by its command",
        lambda raw: raw.update(head_start_ray_commands=["ray start --head --num-gpus=0 --autoscaling-config=~/x"]),
        r"head_start_ray_commands: must hold --num-cpus=0: a trial on the head takes the driver down",
    ),
    (
        "no worker ever comes",
        lambda raw: raw.update(head_start_ray_commands=["ray start --head --num-cpus=0 --num-gpus=0"]),
        r"head_start_ray_commands: must hold --autoscaling-config=: without it no worker ever comes",
    ),
    (
        "more workers at least than at most",
        lambda raw: at(raw, *SPOT).update(min_workers=3, max_workers=2),
        r"gpu-spot.min_workers: must be at most max_workers=2. Received: 3. Lower it",
    ),
    (
        "idle workers stay for ever",
        lambda raw: raw.pop("idle_timeout_minutes"),
        r"idle_timeout_minutes: must be over 0 and at most 60: idle workers cost money. Received: None",
    ),
    (
        "another Ray than the lock's",
        lambda raw: raw["worker_setup_commands"].append("pip install 'ray[default]==2.59.1'"),
        r"worker_setup_commands: must have ray 2.60.0, as in uv.lock. Received: ray 2.59.1. Write 2.60.0",
    ),
    (
        "an environment that is not the lock's",
        lambda raw: raw.update(worker_setup_commands=["pip install emotune"]),
        r"worker_setup_commands: must install the locked environment: no `uv sync --locked`",
    ),
    (
        "another Ray in the image",
        lambda raw: raw.update(docker={"image": "rayproject/ray:2.49.0-py312-gpu", "container_name": "ray"}),
        r"docker: must have ray 2.60.0, as in uv.lock. Received: ray 2.49.0",
    ),
    (
        "a path to mount that is not there",
        lambda raw: raw["file_mounts"].update({"~/emotune/models": "no-such-folder"}),
        r"file_mounts.~/emotune/models: must mount a path that exists in this folder. Received: 'no-such-folder'",
    ),
]
ELSEWHERE: list[tuple[str, str, Change, str]] = [
    (
        "gcp",
        "a field is misspelt",
        lambda raw: at(raw, *SPOT, "node_config").update(guestAccelerator=[]),
        r"guestAccelerator: must be a field of Compute Engine's Instance. Did you mean 'guestAccelerators'\?",
    ),
    (
        "gcp",
        "an image family moves",
        lambda raw: at(raw, *SPOT, "node_config", "disks", 0, "initializeParams").update(
            sourceImage="projects/deeplearning-platform-release/global/images/family/common-cu129"
        ),
        r"disks: must boot one image for ever, not a family",
    ),
    (
        "gcp",
        "workers cannot write the storage",
        lambda raw: at(raw, *SPOT, "node_config").pop("serviceAccounts"),
        r"gpu-spot.node_config: must have a service account whose scopes let it write to gs://",
    ),
    (
        "gcp",
        "the default network is open to the world",
        lambda raw: at(raw, *SPOT, "node_config").pop("networkInterfaces"),
        r"must name its networkInterfaces: Ray takes the default network, which opens SSH to 0.0.0.0/0",
    ),
    (
        "gcp",
        "a machine with GPUs cannot be moved",
        lambda raw: at(raw, *SPOT, "node_config").pop("scheduling"),
        r"must have scheduling.onHostMaintenance: TERMINATE",
    ),
    (
        "on-premise",
        "the head is a worker too",
        lambda raw: raw["provider"]["worker_ips"].append("192.168.1.10"),
        r"provider.worker_ips: must name each machine once, and not the head. Received twice: 192.168.1.10",
    ),
    (
        "on-premise",
        "no worker is named",
        lambda raw: raw["provider"].pop("worker_ips"),
        r"provider.worker_ips: must be set on machines of one's own",
    ),
    (
        "kuberay",
        "another Ray than the lock's",
        lambda raw: raw["spec"].update(rayVersion="2.49.0"),
        r"spec.rayVersion: must be 2.60.0, as in uv.lock. Received: '2.49.0'",
    ),
    (
        "kuberay",
        "an image of another version",
        lambda raw: at(raw, "spec", "workerGroupSpecs", 0, "template", "spec", "containers", 0).update(
            image="registry.example.org/emotune:0.0.9"
        ),
        r"containers.0.image: must have emotune 0.2.0, as in uv.lock. Received: 'registry.example.org/emotune:0.0.9'",
    ),
    (
        "kuberay",
        "a container without a GPU",
        lambda raw: at(raw, "spec", "workerGroupSpecs", 0, "template", "spec", "containers", 0, "resources").update(
            limits={"cpu": "8", "memory": "24Gi"}
        ),
        r"must have a limit of nvidia.com/gpu: Kubernetes gives a GPU to no container without one",
    ),
    (
        "kuberay",
        "no autoscaling",
        lambda raw: raw["spec"].update(enableInTreeAutoscaling=False),
        r"spec.enableInTreeAutoscaling: must be true: without Ray's autoscaler no worker comes or goes",
    ),
    (
        "kuberay",
        "the head runs trials",
        lambda raw: raw["spec"]["headGroupSpec"].update(rayStartParams={"dashboard-host": "0.0.0.0"}),
        r"rayStartParams: must have num-cpus and num-gpus of 0",
    ),
    (
        "kuberay",
        "workers cannot write the storage",
        lambda raw: at(raw, "spec", "workerGroupSpecs", 0, "template", "spec").pop("serviceAccountName"),
        r"must be able to write the storage: it has no service account",
    ),
    (
        "kuberay",
        "a key that Ray's autoscaler reads is missing",
        lambda raw: at(raw, "spec", "workerGroupSpecs", 0).pop("maxReplicas"),
        r"spec: must have the key 'maxReplicas': Ray's autoscaler reads it",
    ),
    (
        "kuberay",
        "a key is misspelt",
        lambda raw: raw["spec"].update(autoscalerOption={}),
        r"spec.autoscalerOption: must be a key of ray.io/v1. Did you mean 'autoscalerOptions'\?",
    ),
    (
        "gcp",
        "a model of provisioning that is none",
        lambda raw: at(raw, *SPOT, "node_config", "scheduling").update(provisioningModel="SPOTT"),
        r"provisioningModel: must be one of Compute Engine's. Received: 'SPOTT'. Did you mean 'SPOT'\?",
    ),
    (
        "gcp",
        "a zone of another region",
        lambda raw: raw["provider"].update(availability_zone="europe-west4-a"),
        r"provider.availability_zone: must be a zone of us-central1. Received: 'europe-west4-a'. Write us-central1-a",
    ),
    (
        "gcp",
        "a network that is no list",
        lambda raw: at(raw, *SPOT, "node_config").update(networkInterfaces="default"),
        r"gpu-spot.node_config: must name its networkInterfaces",
    ),
    (
        "on-premise",
        "an address that is none",
        lambda raw: raw["provider"].update(head_ip="10.0.0.1; rm -rf /"),
        r"provider.head_ip: must be an IP address or a host's name. Received: '10.0.0.1; rm -rf /'",
    ),
    (
        "on-premise",
        "more workers than machines",
        lambda raw: raw.update(min_workers=5, max_workers=5),
        r"min_workers: must be at most the 2 of worker_ips. Received: 5",
    ),
    (
        "kuberay",
        "a count that is a word",
        lambda raw: at(raw, "spec", "workerGroupSpecs", 0).update(maxReplicas="eight"),
        r"spec.workerGroupSpecs.0.maxReplicas: must be a whole number. Received: 'eight'",
    ),
    (
        "kuberay",
        "a number that must be text",
        lambda raw: at(raw, "spec", "headGroupSpec", "rayStartParams").update({"num-cpus": 0}),
        r"rayStartParams.num-cpus: must be text, in quotes: Kubernetes takes no other. Received: 0",
    ),
    (
        "kuberay",
        "another kind",
        lambda raw: raw.update(kind="RayJob"),
        r"kind: must be RayCluster. Received: 'RayJob'",
    ),
]


@pytest.mark.parametrize(("change", "line"), [pytest.param(*rest, id=name) for name, *rest in AWS])
def test_wrong_aws_file_has_one_clear_line(
    change: Change, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    said = problems("cluster.yaml", change, tmp_path, monkeypatch)
    assert [text for text in said if re.search(line, text)], said
    assert len(said) == (3 if "image of another region" in request.node.name else 1)
    assert all("\n" not in text for text in said)


@pytest.mark.parametrize(
    ("file", "change", "line"), [pytest.param(file, *rest, id=f"{file}: {name}") for file, name, *rest in ELSEWHERE]
)
def test_wrong_file_for_another_place_has_one_clear_line(
    file: str, change: Change, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [said] = problems(f"clusters/{file}.yaml", change, tmp_path, monkeypatch)
    assert re.search(line, said), said


def places(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if at:
        yield at
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield from places(inner, (*at, key))


@pytest.mark.parametrize("name", FILES)
def test_no_value_of_a_wrong_kind_is_too_much_for_the_check(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(0)
    where = list(places(yaml.safe_load(filled(name))))
    for place in draw.sample(where, 8):
        wrong = draw.choice([None, "x", ["x"], {"x": 1}])

        def change(raw: dict[str, Any], place: tuple[str | int, ...] = place, wrong: Any = wrong) -> None:
            at(raw, *place[:-1])[place[-1]] = wrong

        assert all("\n" not in line for line in problems(name, change, tmp_path, monkeypatch)), (place, wrong)


def test_a_wrong_file_ends_with_exit_code_2_and_a_missing_one_with_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(filled("cluster.yaml").replace("VolumeSize: 150", "VolumeSize: 20"))
    code, said, complaints = check(path, monkeypatch, capsys)
    assert code == 2 and "is in order" not in said and "price: about $0.20 to $8.02 an hour" in said
    assert complaints.startswith("problem: available_node_types.head.node_config: must have a disk of 100 GB")
    code, _, complaints = check(tmp_path / "clustr.yaml", monkeypatch, capsys)
    assert code == 2 and "Did you mean" in complaints and "Traceback" not in complaints


def only_programs(folder: Path, *names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves these programs alone on the PATH."""
    folder.mkdir()
    for name in names:
        (folder / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_without_boto3_the_rest_is_checked_and_what_is_not_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    only_programs(tmp_path / "bin", "ssh", "rsync", monkeypatch=monkeypatch)
    monkeypatch.setitem(sys.modules, "botocore.loaders", None)
    report = check_cluster(ROOT / "cluster.yaml")
    assert report.notes == [
        "the keys of node_config were not checked: that takes boto3. Install it: make setup EXTRAS=aws"
    ]
    assert len(report.problems) == 1


def test_a_key_or_program_that_is_not_on_this_machine_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    only_programs(tmp_path / "bin", "ssh", "rsync", monkeypatch=monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    [note] = check_cluster(ROOT / "clusters/on-premise.yaml").notes
    assert note.startswith("auth.ssh_private_key ~/.ssh/id_ed25519 is not on this machine")
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/id_ed25519").touch()
    assert check_cluster(ROOT / "clusters/on-premise.yaml").notes == []
    only_programs(tmp_path / "less", "ssh", monkeypatch=monkeypatch)
    assert check_cluster(ROOT / "clusters/on-premise.yaml").notes == [
        "rsync is not on this machine: `ray up` needs it where it is run"
    ]


def test_versions_are_the_locks_or_else_the_installed_ones(tmp_path: Path) -> None:
    import ray

    assert locked_versions(ROOT / "clusters").source == "uv.lock"
    assert locked_versions(ROOT).ray == ray.__version__
    assert locked_versions(tmp_path) == Versions(ray.__version__, "0.2.0", "the installation that checks")


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("pip install -U 'ray[default,tune]==2.60.0' emotune==0.2.0", []),
        ("pip install ray==2.9.3 emotune==0.3.0", ["ray 2.9.3", "emotune 0.3.0"]),
        ("~/env/bin/ray --version | grep -x 'ray, version 2.60.0'", []),
        ("rayproject/ray-ml:2.51.0-gpu", ["ray 2.51.0"]),
        ("cd ~/emotune && ray stop", []),
    ],
)
def test_versions_are_read_out_of_commands_and_images(text: str, others: list[str]) -> None:
    assert list(other_versions(text, Versions("2.60.0", "0.2.0", "uv.lock"))) == others


def test_only_a_locked_or_pinned_installation_counts() -> None:
    assert installs_the_lock(["cd ~/emotune && uv sync --locked --extra gpu"], "")
    assert installs_the_lock(["pip install ray==2.60.0 emotune==0.2.0"], "")
    assert installs_the_lock([], "registry.example.org/emotune:0.2.0")
    assert not installs_the_lock(["uv sync"], "") and not installs_the_lock(["pip install ray emotune"], "")
    assert not installs_the_lock([], "rayproject/ray:2.60.0")


def test_image_of_kubernetes_is_built_from_files_that_exist() -> None:
    lines = (ROOT / "clusters" / "Dockerfile").read_text().splitlines()
    copied = [source for line in lines if line.startswith("COPY ") for source in line.split()[1:-1]]
    assert len(copied) == 8 and all((ROOT / source).exists() for source in copied)
    ignored = (ROOT / "clusters" / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{source}" for source in copied} <= set(ignored)
