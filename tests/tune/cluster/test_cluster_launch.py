"""`cluster.yaml` through Ray's real launcher and autoscaler: moto plays AWS, a callback plays ssh, the rest is real."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.client
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private import commands
from ray.autoscaler._private.aws import config as aws_config
from ray.autoscaler._private.aws import utils as aws_utils
from ray.autoscaler._private.providers import _get_node_provider
from ray.autoscaler._private.updater import NodeUpdaterThread
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.instance_manager.ray_installer import RayInstaller
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import ResourceRequestByCount

from tests import ROOT
from tune.cluster.check import check_cluster
from tune.cluster.instance_catalog import catalog

ADDRESS = "203.0.113.7/32"


class Ssh:
    """Stands for the network: takes every command that Ray would run over ssh or rsync, and says it went well."""

    DEVNULL = -3

    def __init__(self) -> None:
        self.lines: list[str] = []

    def check_call(self, command: list[str], **options: object) -> int:
        self.lines.append(" ".join(command))
        return 0

    def check_output(self, command: list[str], **options: object) -> bytes:
        return b"" if self.check_call(command) == 0 else b"failed"

    def ran(self, text: str) -> bool:
        return any(text in line for line in self.lines)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """An AWS account of moto's with the stack of clusters/aws-account.yaml; yields the stack."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes its key pair into ~/.ssh
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with mock_aws():
        caches = (aws_utils.resource_cache, aws_utils.client_cache, aws_config._get_subnets_or_die)
        for cache in caches:
            cache.cache_clear()
        vpc = boto3.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
        stacks = boto3.client("cloudformation")
        values = {"Vpc": vpc, "Address": ADDRESS, "Bucket": "studies"}
        stacks.create_stack(
            StackName="emotune",
            TemplateBody=(ROOT / "clusters" / "aws-account.yaml").read_text(),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        yield stacks.describe_stacks(StackName="emotune")["Stacks"][0]
        for cache in caches:
            cache.cache_clear()


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of every RunInstances call that leaves this process."""
    seen: list[dict[str, Any]] = []
    real = botocore.client.BaseClient._make_api_call

    def watched(self: Any, operation: str, arguments: dict[str, Any]) -> Any:
        if operation == "RunInstances":
            seen.append(arguments)
        return real(self, operation, arguments)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", watched)
    return seen


def demanded(config: dict[str, Any], gpus: list[float], failed: set[str] | None = None) -> dict[str, int]:
    """The node types that Ray's autoscaler would launch for trials that wait for these shares of a GPU."""
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=AutoscalingConfig(config, skip_content_hash=True).get_node_type_configs(),
        max_num_nodes=config["max_workers"],
        resource_requests=[
            ResourceRequestByCount(request=ResourceRequestUtil.make({"GPU": share, "CPU": 1}), count=1)
            for share in gpus
        ],
        recoverable_resource_availabilities=dict.fromkeys(failed or set(), 0.0),
    )
    reply = ResourceDemandScheduler().schedule(request)
    return {launch.instance_type: launch.count for launch in reply.to_launch if launch.instance_type != "head"}


# Ray 2.60 leaves the cluster file open after it has read it.
def test_cluster_yaml_launches_what_it_says(
    account: dict[str, Any], launches: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    [group] = [output["OutputValue"] for output in account["Outputs"]]
    path = tmp_path / "cluster.yaml"
    path.write_text((ROOT / "cluster.yaml").read_text().replace("sg-FILL-IN", group))
    assert not check_cluster(path).problems
    ssh = Ssh()

    class Updater(NodeUpdaterThread):
        def __init__(self, **options: Any) -> None:
            super().__init__(**(options | {"process_runner": ssh}))

    monkeypatch.setattr(commands, "NodeUpdaterThread", Updater)
    monkeypatch.setattr(aws_config.time, "sleep", lambda seconds: None)
    launched = commands.create_or_update_cluster(str(path), None, None, False, False, True, no_config_cache=True)

    # The autoscaler on the head: sixteen half-GPU trials take eight spot machines at once, or else on-demand ones.
    assert demanded(launched, [0.5] * 16) == {"gpu-spot": 8}
    assert demanded(launched, [0.5] * 16, failed={"gpu-spot"}) == {"gpu-on-demand": 8}
    provider = _get_node_provider(launched["provider"], launched["cluster_name"])
    workers = Ssh()
    for name in ("gpu-on-demand", "gpu-spot"):
        node_config = launched["available_node_types"][name]["node_config"]
        [worker] = provider.create_node(node_config, {"ray-node-type": "worker", "ray-user-node-type": name}, 1)
        provider.non_terminated_nodes({})  # the autoscaler looks before it installs
        instance = SimpleNamespace(instance_type=name, cloud_instance_id=worker)
        RayInstaller(provider, AutoscalingConfig(launched), process_runner=workers).install_ray(instance, "10.0.0.1")

    head, on_demand, spot = launches
    assert head["InstanceType"] == "m7i.xlarge" and on_demand["InstanceType"] == spot["InstanceType"] == "g6.2xlarge"
    assert head["IamInstanceProfile"] == {"Name": "emotune-head"}
    assert on_demand["IamInstanceProfile"] == spot["IamInstanceProfile"] == {"Name": "emotune-worker"}
    assert spot["InstanceMarketOptions"] == {
        "MarketType": "spot",
        "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
    }
    assert "InstanceMarketOptions" not in head and "InstanceMarketOptions" not in on_demand
    for launch in launches:
        assert launch["ImageId"] == "ami-028357be7d5b15c53"
        assert launch["SecurityGroupIds"] == [group]
        assert launch["MetadataOptions"] == {"HttpTokens": "required"}
        [disk] = launch["BlockDeviceMappings"]
        size = {"VolumeSize": 150, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
        assert disk == {"DeviceName": "/dev/sda1", "Ebs": size}
        [tagged] = launch["TagSpecifications"]
        tags = {tag["Key"]: tag["Value"] for tag in tagged["Tags"]}
        assert tagged["ResourceType"] == "instance" and tags["project"] == "emotune"
        assert tags["ray-cluster-name"] == "emotune" and tags["ray-node-type"] in ("head", "worker")

    ec2 = boto3.client("ec2")
    assert {found["GroupName"] for found in ec2.describe_security_groups()["SecurityGroups"]} - {"default"} == {
        found["GroupName"] for found in ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    }
    [opened] = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    rules = {(rule["IpProtocol"], rule.get("FromPort")): rule for rule in opened["IpPermissions"]}
    assert rules.keys() == {("tcp", 22), ("-1", None)} or rules.keys() == {("tcp", 22), ("-1", -1)}
    assert rules["tcp", 22]["IpRanges"] == [{"CidrIp": ADDRESS}] and not rules["tcp", 22]["Ipv6Ranges"]
    [between] = [rule for (protocol, _), rule in rules.items() if protocol == "-1"]
    assert not between["IpRanges"] and [pair["GroupId"] for pair in between["UserIdGroupPairs"]] == [group]

    for node, extra in ((ssh, "aws"), (workers, "gpu")):
        assert node.ran("cloud-init status --wait")
        assert node.ran("--require-hashes -r ~/emotune/.ci/uv.txt")
        assert node.ran(f"uv sync --locked --no-dev --no-editable --python 3.12 --extra {extra}")
        assert node.ran("ray, version 2.60.0") and node.ran("emotune 0.2.0")
        assert node.ran("rsync") and node.ran(":~/emotune/uv.lock") and node.ran(":~/emotune/tune/")
    assert ssh.ran(
        "ray start --head --port=6379 --num-cpus=0 --num-gpus=0 --dashboard-host=0.0.0.0 --autoscaling-config"
    )
    assert workers.ran("nvidia-smi --list-gpus") and not ssh.ran("nvidia-smi --list-gpus")
    assert workers.ran("RAY_HEAD_IP=10.0.0.1") and workers.ran("ray start --address=$RAY_HEAD_IP:6379")
    assert ssh.ran('{"CPU":0,"GPU":0}') and workers.ran('{"CPU":8,') and workers.ran('"GPU":1,"accelerator_type:L4":1}')


def test_account_lets_workers_write_the_bucket_and_the_head_hand_them_that_right(account: dict[str, Any]) -> None:
    template = (ROOT / "clusters" / "aws-account.yaml").read_text()
    assert not re.search(r"[:-] [&*]\w", template)  # CloudFormation takes no YAML aliases
    iam = boto3.client("iam")

    def allowed(role: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        documents = [
            iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
            for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]
        ]
        for policy in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
            version = iam.get_policy(PolicyArn=policy["PolicyArn"])["Policy"]["DefaultVersionId"]
            found_version = iam.get_policy_version(PolicyArn=policy["PolicyArn"], VersionId=version)
            documents.append(found_version["PolicyVersion"]["Document"])
        for document in documents:
            document = document if isinstance(document, dict) else yaml.safe_load(document)
            for statement in document["Statement"]:
                actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
                for action in actions:
                    found.setdefault(action, set()).add(json.dumps(statement["Resource"]))
        return found

    worker, head = allowed("emotune-worker"), allowed("emotune-head")
    assert worker.keys() == {
        "s3:ListBucket",
        "s3:GetBucketLocation",
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
    }
    assert worker["s3:PutObject"] == {'"arn:aws:s3:::studies/*"'}
    assert worker.keys() < head.keys() and "ec2:RunInstances" in head
    [passed] = head["iam:PassRole"]
    assert re.search(r":role/emotune-worker", passed)
    for name in ("emotune-head", "emotune-worker"):
        profile = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
        assert [role["RoleName"] for role in profile["Roles"]] == [name]


def test_the_catalog_has_the_cpus_and_gpus_that_ec2_tells(account: dict[str, Any]) -> None:
    ec2, known = boto3.client("ec2"), catalog("aws").instance_types
    told = ec2.describe_instance_types(InstanceTypes=list(known))["InstanceTypes"]
    assert len(told) == len(known)
    for machine in told:
        ours = known[machine["InstanceType"]]
        assert ours.cpus == machine["VCpuInfo"]["DefaultVCpus"], machine["InstanceType"]
        gpus = machine.get("GpuInfo", {}).get("Gpus", [])
        assert ours.gpus == sum(gpu["Count"] for gpu in gpus), machine["InstanceType"]
        assert not gpus or ours.gpu == gpus[0]["Name"], machine["InstanceType"]
