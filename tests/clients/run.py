"""Drives the example cluster as its users do: kubectl and Python's kubernetes package, each a process of
its own, over TLS. Usage: run.py CLUSTER_BINARY KUBECTL_BINARY"""

import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException

CLUSTER, KUBECTL = sys.argv[1:3]
FOLDER = tempfile.mkdtemp(prefix="rkube-clients-")
KUBECONFIG = os.path.join(FOLDER, "kubeconfig")
HERE = os.path.dirname(os.path.abspath(__file__))
PASSED = []


def kubectl(*args, stdin=None, fails=False, timeout=90):
    """Runs kubectl and gives what it printed; with `fails`, it must fail and the error is given."""
    command = [KUBECTL, "--kubeconfig", KUBECONFIG, "--cache-dir", os.path.join(FOLDER, "cache"), *args]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout)
    if fails:
        assert done.returncode != 0, f"{args} went through: {done.stdout}"
        return done.stderr
    assert done.returncode == 0, f"{args}: {done.stderr}\n{done.stdout}"
    return done.stdout


def read(*args):
    return json.loads(kubectl(*args, "-o", "json"))


def until(what, check, seconds=60):
    """Waits until a check holds: a client of a live cluster has nothing else to wait for."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, f"did not happen: {what}"
        time.sleep(0.05)


def step(function):
    began = time.monotonic()
    function()
    PASSED.append(function.__name__)
    print(f"ok {function.__name__} ({time.monotonic() - began:.1f}s)", flush=True)


def contains(text, *parts):
    for part in parts:
        assert part in text, f"{part!r} is not in:\n{text}"


WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: nginx:1.27
        ports: [{containerPort: 80, name: http}]
        resources: {requests: {cpu: 100m, memory: 64Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
"""


def apply_and_run():
    contains(kubectl("apply", "-f", "-", stdin=WEB), "deployment.apps/web created", "service/web created")
    contains(kubectl("rollout", "status", "deployment/web", "--timeout=60s"), "successfully rolled out")
    pods = read("get", "pods", "-l", "app=web")["items"]
    assert len(pods) == 3 and all(pod["status"]["phase"] == "Running" for pod in pods), pods
    table = kubectl("get", "pods", "-o", "wide")
    contains(table, "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "1/1", "Running")
    contains(kubectl("get", "deployment,rs,svc"), "3/3", "UP-TO-DATE", "DESIRED", "CLUSTER-IP")
    contains(kubectl("apply", "-f", "-", stdin=WEB), "deployment.apps/web unchanged", "service/web unchanged")

    def addresses():
        slices = read("get", "endpointslices", "-l", "kubernetes.io/service-name=web")["items"]
        found = [address for part in slices for end in part.get("endpoints") or [] for address in end["addresses"]]
        return sorted(found) == sorted(pod["status"]["podIP"] for pod in pods)

    until("the service's endpoints are the pods", addresses)


def scale():
    contains(kubectl("scale", "deployment/web", "--replicas=5"), "scaled")
    until("five are ready", lambda: read("get", "deployment", "web")["status"].get("readyReplicas") == 5)
    contains(kubectl("scale", "deployment/web", "--replicas=2"), "scaled")
    until("two are left", lambda: len(read("get", "pods", "-l", "app=web")["items"]) == 2)


def roll_out_and_undo():
    kubectl("scale", "deployment/web", "--replicas=3")
    contains(kubectl("set", "image", "deployment/web", "web=nginx:1.28"), "image updated")
    contains(kubectl("rollout", "status", "deployment/web", "--timeout=60s"), "successfully rolled out")

    def images():
        pods = read("get", "pods", "-l", "app=web")["items"]
        return sorted(pod["spec"]["containers"][0]["image"] for pod in pods)

    until("all pods are new", lambda: images() == ["nginx:1.28"] * 3)
    contains(kubectl("rollout", "history", "deployment/web"), "REVISION", "1", "2")
    contains(kubectl("rollout", "undo", "deployment/web"), "rolled back")
    contains(kubectl("rollout", "status", "deployment/web", "--timeout=60s"), "successfully rolled out")
    until("all pods are as before", lambda: images() == ["nginx:1.27"] * 3)
    contains(kubectl("rollout", "restart", "deployment/web"), "restarted")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")


def ops(*args, **how):
    return kubectl("-n", "ops", *args, **how)


def rollouts_pause_and_go_back():
    kubectl("create", "namespace", "ops")
    ops("create", "deployment", "web", "--image=nginx:1.27", "--replicas=3")
    ops("rollout", "status", "deployment/web", "--timeout=60s")
    ops("rollout", "pause", "deployment/web")
    ops("set", "image", "deployment/web", "nginx=nginx:1.28")
    error = ops("rollout", "status", "deployment/web", "--timeout=2s", fails=True)
    contains(error, "timed out waiting for the condition")
    contains(ops("rollout", "undo", "deployment/web", fails=True), "no rollout history found")
    ops("rollout", "resume", "deployment/web")
    contains(ops("rollout", "status", "deployment/web", "--timeout=60s"), "successfully rolled out")
    contains(ops("rollout", "history", "deployment/web", "--revision=2"), "nginx:1.28")
    contains(ops("rollout", "undo", "deployment/web", "--to-revision=1"), "rolled back")
    contains(ops("rollout", "status", "deployment/web", "--timeout=60s"), "successfully rolled out")
    contains(ops("get", "deployment", "web", "-o", "wide"), "nginx:1.27", "3/3")
    error = ops("rollout", "undo", "deployment/web", "--to-revision=99", fails=True)
    contains(error, "unable to find specified revision 99")
    error = ops("scale", "deployment/web", "--replicas=2", "--current-replicas=5", fails=True)
    contains(error, "Expected replicas to be 5, was 3")


def nodes_are_drained_and_tainted():
    def on(node):
        return read("get", "pods", "-A", f"--field-selector=spec.nodeName={node}")["items"]

    ops("run", "alone", "--image=busybox:1", "--overrides", '{"spec": {"nodeName": "node-1"}}')
    ops("wait", "--for=condition=Ready", "pod/alone", "--timeout=30s")
    contains(kubectl("drain", "node-1", fails=True), "declare no controller")
    drain = kubectl("drain", "node-1", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=60s")
    contains(drain, "pod/alone evicted", "node/node-1 drained")
    assert on("node-1") == []
    contains(kubectl("get", "nodes"), "Ready,SchedulingDisabled")
    kubectl("uncordon", "node-1")
    ops("run", "there", "--image=busybox:1", "--overrides", '{"spec": {"nodeName": "node-2"}}')
    patience = {"key": "maintenance", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 2}
    spec = {"spec": {"nodeName": "node-2", "tolerations": [patience]}}
    ops("run", "patient", "--image=busybox:1", "--overrides", json.dumps(spec))
    ops("wait", "--for=condition=Ready", "pod/there", "pod/patient", "--timeout=30s")
    began = time.monotonic()
    kubectl("taint", "node", "node-2", "maintenance=yes:NoExecute")
    until("the node is empty", lambda: not on("node-2"))
    assert time.monotonic() - began > 2, "the patient pod went too early"
    contains(ops("get", "events"), "Marking for deletion Pod ops/patient")
    kubectl("taint", "node", "node-2", "maintenance-")
    ops("rollout", "status", "deployment/web", "--timeout=60s")


def budgets_hold_a_drain():
    budget = ops("create", "poddisruptionbudget", "web", "--selector=app=web", "--min-available=3")
    contains(budget, "poddisruptionbudget.policy/web created")
    until("it is counted", lambda: ops("get", "pdb", "web", "-o", "jsonpath={.status.currentHealthy}") == "3")
    table = ops("get", "pdb").split("\n")
    contains(table[0], "NAME", "MIN AVAILABLE", "MAX UNAVAILABLE", "ALLOWED DISRUPTIONS", "AGE")
    assert table[1].split()[:4] == ["web", "3", "N/A", "0"], table
    contains(ops("describe", "pdb", "web"), "Allowed disruptions:", "Current:", "Desired:", "Total:")
    node = read("-n", "ops", "get", "pods", "-l", "app=web")["items"][0]["spec"]["nodeName"]
    drain = ["drain", node, "--ignore-daemonsets", "--force"]
    error = kubectl(*drain, "--timeout=2s", fails=True)
    contains(error, "Cannot evict pod as it would violate the pod's disruption budget.")
    # Now one at a time may go, as soon as the one before is replaced.
    ops("patch", "pdb", "web", "--type=merge", "-p", '{"spec": {"minAvailable": 2}}')
    contains(kubectl(*drain, "--timeout=60s"), "evicted", f"node/{node} drained")
    ops("rollout", "status", "deployment/web", "--timeout=60s")
    until("it allows one again", lambda: ops("get", "pdb").split("\n")[1].split()[3] == "1")
    kubectl("uncordon", node)
    ops("delete", "pdb", "web")


def pods_change_while_they_run():
    ops("run", "app", "--image=busybox:1.36")
    ops("wait", "--for=condition=Ready", "pod/app", "--timeout=30s")
    ops("set", "image", "pod/app", "app=busybox:2")

    def restarted():
        status = read("-n", "ops", "get", "pod", "app")["status"]["containerStatuses"][0]
        return status["image"] == "busybox:2" and status["restartCount"] == 1 and "running" in status["state"]

    until("the new image runs", restarted)
    until("it is told", lambda: "busybox:2" in ops("get", "events", "--field-selector", "involvedObject.name=app"))
    told = ops("describe", "pod", "app")
    contains(told, "Container app definition changed, will be restarted", "kubelet")
    story = ["Successfully assigned", 'Pulling image "busybox:1.36"', "Started container app"]
    contains(told, *story)
    ops("debug", "app", "--image=busybox:3", "-c", "debugger")

    def debugger():
        status = read("-n", "ops", "get", "pod", "app")["status"].get("ephemeralContainerStatuses", [])
        return status and "running" in status[0]["state"]

    until("the debugger runs", debugger)
    spec = {"spec": {"nodeName": "node-3", "containers": [
        {"name": "huge", "image": "busybox:1", "resources": {"requests": {"cpu": "99"}}}]}}
    ops("run", "huge", "--image=busybox:1", "--overrides", json.dumps(spec))
    until("the node does not take it", lambda: "OutOfcpu" in ops("get", "pod", "huge"))
    contains(ops("delete", "pod", "app", "--force", "--grace-period=0"), "deleted")
    kubectl("delete", "namespace", "ops", "--timeout=90s", timeout=120)


def describe_and_explain():
    pod = read("get", "pods", "-l", "app=web")["items"][0]["metadata"]["name"]
    contains(kubectl("describe", "pod", pod), "Successfully assigned", "Conditions:", "PodScheduled", "nginx:1.27")
    contains(kubectl("describe", "deployment", "web"), "ScalingReplicaSet", "RollingUpdateStrategy", "NewReplicaSet")
    node = read("get", "nodes")["items"][0]["metadata"]["name"]
    contains(kubectl("describe", "node", node), "Conditions:", "Allocated resources:", "Capacity:", "KubeletReady")
    contains(kubectl("describe", "service", "web"), "Selector:", "app=web", "Endpoints:")
    contains(kubectl("explain", "pod.spec.containers"), "FIELDS:", "image", "<string>")
    contains(kubectl("explain", "deployment.spec.strategy"), "rollingUpdate")
    contains(kubectl("api-resources"), "pods", "po", "deployments", "deploy", "apps/v1")
    contains(kubectl("api-versions"), "apps/v1", "v1")
    contains(kubectl("version"), "Server Version")
    contains(kubectl("cluster-info"), "control plane")
    contains(kubectl("get", "all"), "pod/", "service/web", "deployment.apps/web", "replicaset.apps/")
    contains(kubectl("get", "events"), "LAST SEEN", "Scheduled")
    contains(kubectl("get", "nodes", "-o", "wide"), "Ready", "VERSION", "CONTAINER-RUNTIME")


def label_annotate_patch():
    contains(kubectl("label", "deployment", "web", "tier=front"), "labeled")
    contains(kubectl("annotate", "deployment", "web", "note=hello"), "annotated")
    contains(kubectl("label", "deployment", "web", "tier-"), "unlabeled")
    patches = {
        "strategic": {"spec": {"template": {"spec": {"containers": [{"name": "web", "env": [{"name": "A", "value": "1"}]}]}}}},
        "merge": {"metadata": {"annotations": {"note": None, "merged": "yes"}}},
        "json": [{"op": "replace", "path": "/spec/replicas", "value": 4}],
    }
    for kind, patch in patches.items():
        contains(kubectl("patch", "deployment", "web", f"--type={kind}", "-p", json.dumps(patch)), "patched")
    after = read("get", "deployment", "web")
    container = after["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "nginx:1.27" and container["env"] == [{"name": "A", "value": "1"}], container
    assert after["metadata"]["annotations"]["merged"] == "yes" and "note" not in after["metadata"]["annotations"]
    assert after["spec"]["replicas"] == 4
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    managers = read("get", "deployment", "web", "--show-managed-fields")["metadata"]["managedFields"]
    assert any(entry["manager"] == "kubectl-patch" for entry in managers), managers


def watch_with_kubectl():
    command = [KUBECTL, "--kubeconfig", KUBECONFIG, "get", "configmaps", "-w", "--output-watch-events"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True)
    reader.start()
    try:
        until("the watch has begun", lambda: any("ADDED" in line for line in list(lines)))
        kubectl("create", "configmap", "seen", "--from-literal=a=b")
        kubectl("patch", "configmap", "seen", "-p", '{"data":{"c":"d"}}')
        kubectl("delete", "configmap", "seen")
        events = ("ADDED", "MODIFIED", "DELETED")
        until("the watch shows it all", lambda: all(any(e in l and "seen" in l for l in list(lines)) for e in events))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)


def cascades():
    kubectl("delete", "deployment", "web", "--cascade=orphan")
    sets = read("get", "rs", "-l", "app=web")["items"]
    until("the sets have no owner", lambda: not any(
        "ownerReferences" in found["metadata"] for found in read("get", "rs", "-l", "app=web")["items"]))
    assert sets and read("get", "pods", "-l", "app=web")["items"]
    contains(kubectl("apply", "-f", "-", stdin=WEB), "deployment.apps/web created")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    kubectl("delete", "deployment", "web", "--cascade=foreground", "--timeout=60s")
    assert not read("get", "rs", "-l", "app=web")["items"], "foreground waits for the dependents"
    kubectl("apply", "-f", "-", stdin=WEB)
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    kubectl("delete", "deployment", "web", "--cascade=background")
    until("the pods are gone", lambda: not read("get", "pods", "-l", "app=web")["items"], 90)


def namespace_deletion():
    kubectl("create", "namespace", "short")
    kubectl("-n", "short", "apply", "-f", "-", stdin=WEB)
    kubectl("-n", "short", "rollout", "status", "deployment/web", "--timeout=60s")
    kubectl("delete", "namespace", "short", "--timeout=90s", timeout=120)
    contains(kubectl("get", "namespace", "short", fails=True), 'namespaces "short" not found')


def errors_read_like_kubernetes():
    contains(kubectl("get", "pod", "nope", fails=True), 'Error from server (NotFound): pods "nope" not found')
    contains(kubectl("get", "lamps", fails=True), 'the server doesn\'t have a resource type "lamps"')
    kubectl("create", "configmap", "twice")
    contains(kubectl("create", "configmap", "twice", fails=True), 'configmaps "twice" already exists')
    broken = WEB.replace("replicas: 3", "replicass: 3")
    contains(kubectl("apply", "-f", "-", stdin=broken, fails=True), 'unknown field "spec.replicass"')
    wrong = WEB.replace("matchLabels: {app: web}", "matchLabels: {app: other}")
    contains(
        kubectl("apply", "-f", "-", stdin=wrong, fails=True),
        'The Deployment "web" is invalid', "spec.template.metadata.labels", "`selector` does not match template `labels`",
    )
    contains(kubectl("apply", "-f", "-", stdin="kind: Pod\napiVersion: v1\nmetadata: {name: a}\nspec: {}", fails=True),
             "spec.containers", "Required value")
    contains(kubectl("apply", "-f", "-", stdin="{not yaml", fails=True), "error")
    wrong = WEB.replace("replicas: 3", 'replicas: "3"')
    contains(kubectl("apply", "--validate=false", "-f", "-", stdin=wrong, fails=True),
             "cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32")
    kubectl("create", "-f", "-", stdin="kind: Lamp\napiVersion: v1\nmetadata: {name: a}", fails=True)


def python_client():
    config.load_kube_config(KUBECONFIG)
    core = client.CoreV1Api()
    seen = []

    def follow():
        stream = watch.Watch()
        for event in stream.stream(core.list_namespaced_pod, "default", label_selector="by=python", timeout_seconds=60):
            seen.append((event["type"], event["object"].status.phase))
            if event["type"] == "DELETED":
                stream.stop()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    pod = client.V1Pod(
        metadata=client.V1ObjectMeta(name="py", labels={"by": "python"}),
        spec=client.V1PodSpec(containers=[client.V1Container(name="a", image="busybox")]),
    )
    core.create_namespaced_pod("default", pod)
    until("the pod runs", lambda: core.read_namespaced_pod("py", "default").status.phase == "Running")
    core.patch_namespaced_pod("py", "default", {"metadata": {"labels": {"more": "yes"}}})
    assert core.read_namespaced_pod("py", "default").metadata.labels["more"] == "yes"
    try:
        core.create_namespaced_pod("default", pod)
        raise AssertionError("a second pod of one name")
    except ApiException as error:
        assert error.status == 409 and json.loads(error.body)["reason"] == "AlreadyExists"
    core.delete_namespaced_pod("py", "default", grace_period_seconds=0)
    until("the watch saw it go", lambda: any(kind == "DELETED" for kind, _ in seen))
    thread.join(10)
    assert ("MODIFIED", "Running") in seen, seen


def request(path, token=None, data=None, content_type="application/json"):
    with open(KUBECONFIG) as file:
        server = next(line.split()[1] for line in file if line.strip().startswith("server:"))
    headers = {"Content-Type": content_type}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    message = urllib.request.Request(server + path, data=data, headers=headers)
    try:
        with urllib.request.urlopen(message, context=context, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def strangers_and_large_bodies():
    code, status = request("/api/v1/pods", token="wrong")
    assert (code, status["kind"], status["reason"]) == (401, "Status", "Unauthorized"), (code, status)
    large = "x" * (4 << 20)
    manifest = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "large"}, "data": {"a": large}})
    error = kubectl("create", "-f", "-", stdin=manifest, fails=True)
    contains(error, "too large")
    # Both send the whole body before they read anything.
    config_map = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="large"), data={"a": large})
    try:
        client.CoreV1Api().create_namespaced_config_map("default", config_map)
        raise AssertionError("a body of 4 MiB went through")
    except ApiException as error:
        assert (error.status, json.loads(error.body)["reason"]) == (413, "RequestEntityTooLarge"), error
    code, status = request("/api/v1/namespaces/default/configmaps", token="wrong", data=manifest.encode())
    assert (code, status["reason"]) == (401, "Unauthorized"), (code, status)
    contains(kubectl("get", "nodes"), "Ready")


def failures_read_well():
    command = [CLUSTER, "--listen", "192.0.2.1:1", "--kubeconfig", os.path.join(FOLDER, "other")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1, done
    contains(done.stderr, "cannot listen on 192.0.2.1:1: ")
    assert "Error" not in done.stderr and "{" not in done.stderr, done.stderr


def stops_in_order(process):
    command = [KUBECTL, "--kubeconfig", KUBECONFIG, "get", "pods", "-w"]
    watcher = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0, "the cluster stops cleanly on Ctrl-C"
    watcher.wait(20)


def main():
    command = [CLUSTER, "--nodes", "3", "--listen", "127.0.0.1:0", "--kubeconfig", KUBECONFIG]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until("the kubeconfig is there", lambda: os.path.exists(KUBECONFIG) and os.path.getsize(KUBECONFIG))
        until("the nodes are ready", lambda: kubectl("get", "nodes").count(" Ready ") == 3)
        for check in (
            apply_and_run,
            scale,
            roll_out_and_undo,
            rollouts_pause_and_go_back,
            nodes_are_drained_and_tainted,
            budgets_hold_a_drain,
            pods_change_while_they_run,
            describe_and_explain,
            label_annotate_patch,
            watch_with_kubectl,
            cascades,
            namespace_deletion,
            errors_read_like_kubernetes,
            python_client,
            strangers_and_large_bodies,
            failures_read_well,
        ):
            step(check)
        step(lambda: stops_in_order(process))
    finally:
        process.kill()
    print(f"{len(PASSED)} passed, 0 failed")


main()
