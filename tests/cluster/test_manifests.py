"""The cluster's files: Ray's own schema, the fields of KubeRay's resources, and what the image promises."""

from __future__ import annotations

import argparse
import copy
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import fastsam_batch
from fastsam_batch import cli
from fastsam_batch.config import segment_options

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"

# KubeRay's API reference (ray.io/v1): the fields of each type, those with a type of their own named.
KUBERAY: dict[str, dict[str, str | None]] = {
    "RayJob": {"apiVersion": None, "kind": None, "metadata": None, "spec": "RayJobSpec"},
    "RayJobSpec": {
        **dict.fromkeys(
            [
                *(
                    "activeDeadlineSeconds",
                    "backoffLimit",
                    "metadata",
                    "clusterSelector",
                    "submitterConfig",
                    "managedBy",
                ),
                *("entrypoint", "runtimeEnvYAML", "jobId", "submissionMode", "entrypointResources"),
                *("suspend", "entrypointNumCpus", "entrypointNumGpus", "ttlSecondsAfterFinished"),
                "shutdownAfterJobFinishes",
            ]
        ),
        "rayClusterSpec": "RayClusterSpec",
        "submitterPodTemplate": "PodTemplate",
    },
    "RayClusterSpec": {
        **dict.fromkeys(["suspend", "managedBy", "headServiceAnnotations", "enableInTreeAutoscaling", "rayVersion"]),
        "gcsFaultToleranceOptions": None,
        "autoscalerOptions": "AutoscalerOptions",
        "headGroupSpec": "HeadGroupSpec",
        "workerGroupSpecs": "WorkerGroupSpec",
    },
    "AutoscalerOptions": dict.fromkeys(
        [
            *("resources", "image", "imagePullPolicy", "securityContext", "idleTimeoutSeconds"),
            *("upscalingMode", "version", "env", "envFrom", "volumeMounts"),
        ]
    ),
    "HeadGroupSpec": {
        **dict.fromkeys(["headService", "enableIngress", "rayStartParams", "serviceType"]),
        "template": "PodTemplate",
    },
    "WorkerGroupSpec": {
        **dict.fromkeys(["groupName", "replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds", "suspend"]),
        **dict.fromkeys(["rayStartParams", "scaleStrategy", "numOfHosts"]),
        "template": "PodTemplate",
    },
    "PodTemplate": {"metadata": None, "spec": "PodSpec"},
    "PodSpec": {
        **dict.fromkeys(
            ["serviceAccountName", "securityContext", "tolerations", "nodeSelector", "affinity", "volumes"]
        ),
        "terminationGracePeriodSeconds": None,
        "containers": "Container",
    },
    "Container": dict.fromkeys(
        ["name", "image", "securityContext", "ports", "resources", "env", "envFrom", "volumeMounts", "lifecycle"]
    ),
}
REQUIRED = {
    "RayJobSpec": {"rayClusterSpec", "entrypoint"},
    "RayClusterSpec": {"headGroupSpec"},
    "HeadGroupSpec": {"template", "rayStartParams"},
    "WorkerGroupSpec": {"template", "rayStartParams", "groupName", "minReplicas", "maxReplicas"},
    "PodTemplate": {"spec"},
    "PodSpec": {"containers"},
    "Container": {"name", "image", "resources"},
}


def faults(value: Any, kind: str, where: str) -> list[str]:
    """Fields that the type does not have, and required ones that are missing."""
    if isinstance(value, list):
        return [fault for index, item in enumerate(value) for fault in faults(item, kind, f"{where}[{index}]")]
    fields = KUBERAY[kind]
    found = [f"{where}.{name}: {kind} has no such field" for name in value if name not in fields]
    found += [f"{where}.{name} is missing" for name in REQUIRED.get(kind, set()) if name not in value]
    for name, inner in value.items():
        if (inner_kind := fields.get(name)) is not None:
            found += faults(inner, inner_kind, f"{where}.{name}")
    return found


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text())
    return loaded


def pods() -> dict[str, dict[str, Any]]:
    spec = load("rayjob.yaml")["spec"]["rayClusterSpec"]
    workers = {group["groupName"]: group["template"] for group in spec["workerGroupSpecs"]}
    return {"head": spec["headGroupSpec"]["template"], **workers}


def test_aws_holds_to_rays_own_schema():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = load("aws.yaml")
    validate_config(prepare_config(copy.deepcopy(config)))
    config["available_node_types"]["gpu"]["min_worker"] = 1
    with pytest.raises(jsonschema.ValidationError, match="min_worker"):
        validate_config(prepare_config(config))


def test_aws_keeps_the_head_on_demand_and_idle_and_gpus_on_spot():
    types = load("aws.yaml")["available_node_types"]
    assert "InstanceMarketOptions" not in types["head"]["node_config"]
    assert types["head"]["resources"] == {"CPU": 0}
    assert types["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert types["gpu"]["max_workers"] + types["cpu"]["max_workers"] <= load("aws.yaml")["max_workers"]


def test_no_node_gives_its_credentials_to_a_plain_request():
    for kind in load("aws.yaml")["available_node_types"].values():
        assert kind["node_config"]["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    for name in ("aws.yaml", "rayjob.yaml", "Dockerfile"):
        assert not re.search(r"AKIA|aws_secret|password|token:", (CLUSTER / name).read_text(), re.IGNORECASE)


def test_the_rayjob_has_the_fields_of_kuberay_and_no_others():
    job = load("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert faults(job, "RayJob", "RayJob") == []
    broken = copy.deepcopy(job)
    group = broken["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    group["replica"] = group.pop("minReplicas")
    del group["template"]["spec"]["containers"][0]["image"]
    assert len(faults(broken, "RayJob", "RayJob")) == 3


def test_the_rayjobs_pods_are_bounded_and_not_root():
    for name, pod in pods().items():
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True, name
        for container in pod["spec"]["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            resources = container["resources"]
            assert resources["requests"] == resources["limits"] and {"cpu", "memory"} <= set(resources["limits"])
    assert pods()["gpu"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    groups = load("rayjob.yaml")["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert all(group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] for group in groups)
    start = [group["rayStartParams"] for group in groups]
    assert all(isinstance(value, str) for params in start for value in params.values())


def test_the_rayjobs_command_is_one_that_the_program_takes():
    words = shlex.split(load("rayjob.yaml")["spec"]["entrypoint"])
    assert words[:2] == ["fastsam-batch", "segment"]
    parser = argparse.ArgumentParser()
    cli._COMMANDS["segment"][1](parser)
    segment_options(vars(parser.parse_args(words[2:])))


def test_everything_names_one_image_and_one_ray():
    image = f"REGISTRY/fastsam-batch:{fastsam_batch.__version__}"
    assert load("aws.yaml")["docker"]["image"] == image
    assert {container["image"] for pod in pods().values() for container in pod["spec"]["containers"]} == {image}
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned and load("rayjob.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == pinned[1]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, continued lines joined and comments left out."""
    lines = [line for line in (CLUSTER / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word, rest.strip()) for line in joined if line.strip() for word, rest in [line.split(maxsplit=1)]]


def test_the_image_is_pinned_and_not_root():
    found = instructions()
    (base,) = [rest for word, rest in found if word == "FROM"]
    assert re.fullmatch(r"nvidia/cuda:\d+\.\d+\.\d+-base-ubuntu\d\d\.04", base)
    users = [rest for word, rest in found if word == "USER"]
    assert users and users[-1].isdigit() and int(users[-1]) > 0
    assert [word for word, _ in found][-3:] == ["USER", "ENTRYPOINT", "CMD"]  # nothing runs as root behind it
    for rest in (rest for word, rest in found if word == "RUN" and "pip install" in rest):
        assert "--constraint constraints.txt" in rest
    assert not any(word == "ADD" for word, _ in found)
    assert not re.search(r"https?://|curl|\|\s*(ba)?sh\b|sudo|latest", (CLUSTER / "Dockerfile").read_text())


def test_what_the_image_copies_is_there_and_holds_no_weights():
    for sources in (rest.split()[:-1] for word, rest in instructions() if word == "COPY"):
        for source in (source for source in sources if not source.startswith("--")):
            assert (ROOT / source).exists(), source
    kept = {path.name for path in (CLUSTER / "weights").iterdir()}
    assert {"README.md", ".gitignore"} <= kept
    assert not [name for name in kept if name.endswith((".pt", ".safetensors"))]
