"""The Kubernetes files against KubeRay's own definitions, made strict, and against what toscore needs."""

import copy
import os
from pathlib import Path

import jsonschema
import pytest
import yaml

from orchestrator.run_file.reading import parse
from tests.deploy.files import DEPLOY, REPOSITORY, documents, everything

FOLDER = DEPLOY / "kuberay"
VARIABLE = "TOSCORE_KUBERAY_CRDS"


def definitions():
    """The folder with rayclusters.yaml and rayjobs.yaml."""
    return Path(os.environ.get(VARIABLE) or REPOSITORY.parent / "shared" / "crd")


@pytest.fixture(scope="module", params=["RayCluster", "RayJob"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def schema(kind):
    """The schema of v1 of a kind, in which every key that it does not name is refused."""
    file = definitions() / f"{kind.lower()}s.yaml"
    if not file.exists():
        pytest.skip(f"{file} is absent: set {VARIABLE} to a folder with KubeRay's definitions")
    versions = yaml.load(file.read_text(), yaml.CSafeLoader)["spec"]["versions"]
    (v1,) = [v["schema"]["openAPIV3Schema"] for v in versions if v["name"] == "v1"]
    return strict(v1)


def strict(node):
    """`additionalProperties: false` wherever properties are listed; Kubernetes' own marks translated."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("x-kubernetes-int-or-string") is True:
        return {"type": ["integer", "string"]}
    made = {
        key: {name: strict(inner) for name, inner in value.items()}
        if key == "properties"
        else strict(value)
        for key, value in node.items()
    }
    if "properties" in made and not node.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def validate(manifest, schema):
    body = {key: value for key, value in manifest.items() if key != "metadata"}
    jsonschema.Draft202012Validator(schema).validate(body)


def manifest_of(kind):
    (found,) = documents(FOLDER / f"{kind.lower()}.yaml")
    assert found["kind"] == kind and found["apiVersion"] == "ray.io/v1"
    return found


def cluster_of(manifest):
    spec = manifest["spec"]
    return spec.get("rayClusterSpec", spec)


def templates_of(manifest):
    """The pod templates of the head and the workers."""
    cluster = cluster_of(manifest)
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def test_valid(kind, schema):
    """Each manifest holds what the definition names, and nothing else."""
    validate(manifest_of(kind), schema)


def misspelt(cluster):
    cluster["headGroupSpec"]["rayStartParam"] = cluster["headGroupSpec"].pop("rayStartParams")


def number_for_text(cluster):
    cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0


def text_for_number(cluster):
    cluster["workerGroupSpecs"][0]["maxReplicas"] = "many"


def unknown_mode(cluster):
    cluster["authOptions"]["mode"] = "password"


def misspelt_in_a_pod(cluster):
    template = cluster["workerGroupSpecs"][0]["template"]
    template["spec"]["containers"][0]["resource"] = {}


def nothing_to_start(cluster):
    del cluster["headGroupSpec"]["template"]


@pytest.mark.parametrize(
    "damage",
    [
        misspelt,
        number_for_text,
        text_for_number,
        unknown_mode,
        misspelt_in_a_pod,
        nothing_to_start,
    ],
)
def test_a_broken_copy_is_refused(kind, schema, damage):
    """The check finds a misspelt key, a wrong type, an unknown value and what is missing."""
    broken = copy.deepcopy(manifest_of(kind))
    damage(cluster_of(broken))
    with pytest.raises(jsonschema.ValidationError):
        validate(broken, schema)


def test_token_on(kind):
    """Ray asks for a token, in the version that the images hold."""
    cluster = cluster_of(manifest_of(kind))
    assert cluster["authOptions"]["mode"] == "token"
    constraints = (REPOSITORY / "constraints.txt").read_text().split()
    assert f"ray=={cluster['rayVersion']}" in constraints


def test_the_policy_holds_all_pods(kind):
    """Every pod of the manifests carries the label that the network policy goes by."""
    (policy,) = documents(FOLDER / "networkpolicy.yaml")
    selected = policy["spec"]["podSelector"]["matchLabels"].items()
    manifest = manifest_of(kind)
    templates = templates_of(manifest)
    if kind == "RayJob":
        templates.append(manifest["spec"]["submitterPodTemplate"])
    for template in templates:
        assert selected <= template["metadata"]["labels"].items()
    assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    for rule in policy["spec"]["ingress"]:
        assert rule["from"], "nobody is let in from everywhere"


def test_no_pod_is_root(kind):
    """Pods run as the image's user without capabilities; only the head reaches the Kubernetes API."""
    manifest = manifest_of(kind)
    for template in templates_of(manifest):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 1000
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    for group in cluster_of(manifest)["workerGroupSpecs"]:
        assert group["template"]["spec"]["automountServiceAccountToken"] is False


def test_workers_are_elastic(kind):
    """GPU workers start at none, grow on demand, and may be on spot nodes; the head does no work."""
    cluster = cluster_of(manifest_of(kind))
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    gpus = [group for group in cluster["workerGroupSpecs"] if "gpu" in group["groupName"]]
    assert gpus
    for group in gpus:
        assert (group["minReplicas"], group["replicas"]) == (0, 0) and group["maxReplicas"] > 1
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert limits["nvidia.com/gpu"] == "1"
        keys = {toleration["key"] for toleration in group["template"]["spec"]["tolerations"]}
        assert {"nvidia.com/gpu", "cloud.google.com/gke-spot"} <= keys


def test_workers_can_publish_before_their_pod_ends(kind):
    """After SIGTERM a node drains for less time than Kubernetes leaves to its pod."""
    for group in cluster_of(manifest_of(kind))["workerGroupSpecs"]:
        spec = group["template"]["spec"]
        variables = {v["name"]: v["value"] for v in spec["containers"][0]["env"]}
        drains = float(variables["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
        assert 10 <= drains < spec["terminationGracePeriodSeconds"]


def test_credentials_come_from_a_secret(kind):
    """No manifest holds a credential: pods take them from the secret of the store."""
    manifest = manifest_of(kind)
    for template in templates_of(manifest):
        (container,) = template["spec"]["containers"]
        assert {"secretRef": {"name": "toscore-store", "optional": True}} in container["envFrom"]
    for value in everything(manifest):
        if isinstance(value, dict) and str(value.get("name", "")).startswith(("AWS_", "RAY_AUTH")):
            assert "value" not in value


def test_volumes_exist(kind):
    """What a container mounts is a volume of its pod, and what that refers to is in these files."""
    made = {
        (document["kind"], document["metadata"]["name"])
        for file in FOLDER.glob("*.yaml")
        for document in documents(file)
    }
    for template in templates_of(manifest_of(kind)):
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        for mount in template["spec"]["containers"][0]["volumeMounts"]:
            volume = volumes[mount["name"]]
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            config = volume.get("configMap", {}).get("name")
            assert ("PersistentVolumeClaim", claim) in made or ("ConfigMap", config) in made


def test_the_run_file():
    """The ConfigMap's run file is a good one, keeps its store in a bucket, and asks for its workers."""
    (config,) = documents(FOLDER / "run.yaml")
    run = parse(yaml.safe_load(config["data"]["run.yaml"]))
    assert run.store.startswith("s3://")
    assert run.resources.workers != "auto" and run.resources.gpus_per_worker == 1
    (group,) = manifest_of("RayJob")["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert run.resources.workers <= group["maxReplicas"]
    mount = group["template"]["spec"]["containers"][0]["volumeMounts"][0]["mountPath"]
    assert f"toscore run {mount}/run.yaml" in manifest_of("RayJob")["spec"]["entrypoint"]
