"""Runs the example scheduler, twice, against a cluster that has none: pods get their nodes; the one that leads is
killed and the other takes over, and gives the lease back when it is told to stop; a scheduler of another name and
configuration serves its own pods beside. Asks what_if about what kubectl prints of that cluster.
Usage: schedulers.py CLUSTER_BINARY SCHEDULER_BINARY WHAT_IF_BINARY KUBECTL_BINARY"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

CLUSTER, SCHEDULER, WHAT_IF, KUBECTL = sys.argv[1:5]
FOLDER = tempfile.mkdtemp(prefix="rkube-schedulers-")
KUBECONFIG = os.path.join(FOLDER, "kubeconfig")

CONFIG = """
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaseDuration: 3s, renewDeadline: 2s, retryPeriod: 500ms}
"""
PACKER = """
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: false}
profiles:
- schedulerName: packer
  pluginConfig:
  - name: NodeResourcesFit
    args: {scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 1}]}}
  plugins:
    score:
      disabled: [{name: '*'}]
      enabled: [{name: NodeResourcesFit}]
"""
BOTH = """
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles: [{}, {schedulerName: packer}]
"""


def kubectl(*args, stdin=None):
    command = [KUBECTL, "--kubeconfig", KUBECONFIG, "--cache-dir", os.path.join(FOLDER, "cache"), *args]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{args}: {done.stderr}\n{done.stdout}"
    return done.stdout


def until(what, check, seconds=30):
    """Waits until a check holds: a client of a live cluster has nothing else to wait for."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, f"did not happen: {what}"
        time.sleep(0.05)


def file(name, text):
    path = os.path.join(FOLDER, name)
    with open(path, "w") as out:
        out.write(text)
    return path


def pod(name, **spec):
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container], **spec}}


def create(name, **spec):
    kubectl("create", "-f", "-", stdin=json.dumps(pod(name, **spec)))


def nodes_of():
    pods = json.loads(kubectl("get", "pods", "-o", "json"))["items"]
    return {pod["metadata"]["name"]: pod["spec"].get("nodeName") for pod in pods}


def holder():
    text = kubectl("-n", "kube-system", "get", "leases", "-o", "json")
    leases = {lease["metadata"]["name"]: lease for lease in json.loads(text)["items"]}
    return leases.get("kube-scheduler", {}).get("spec", {}).get("holderIdentity")


def stops(process):
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0, "it stops cleanly on Ctrl-C"


def scheduled(start):
    config = file("config.yaml", CONFIG)
    candidates = {
        name: start(SCHEDULER, "--kubeconfig", KUBECONFIG, "--config", config, "--identity", name) for name in ("one", "two")
    }
    packer = start(SCHEDULER, "--kubeconfig", KUBECONFIG, "--config", file("packer.yaml", PACKER))

    leader = until("one of them leads", holder)
    create("first")
    create("stranger", schedulerName="nobody")
    until("a pod gets its node", lambda: nodes_of()["first"])
    for number in range(3):
        create(f"packed-{number}", schedulerName="packer")
    until("the packer serves its own", lambda: all(nodes_of()[f"packed-{n}"] for n in range(3)))
    packed = {nodes_of()[f"packed-{number}"] for number in range(3)}
    assert len(packed) == 1, f"packed pods go to one node, not to {packed}"
    stops(packer)

    killed = candidates.pop(leader)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    began = time.monotonic()
    create("second")
    until("the other one takes over", lambda: nodes_of()["second"])
    took_over = time.monotonic() - began
    (other, process), = candidates.items()
    assert holder() == other, holder()
    assert nodes_of()["stranger"] is None, "a pod of another scheduler's is left alone"
    events = kubectl("get", "events", "--field-selector", "involvedObject.name=second")
    assert "Scheduled" in events and "Successfully assigned default/second to node-" in events, events
    create("huge", nodeSelector={"no": "where"})
    reason = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."
    until("a pod that fits nowhere says why", lambda: reason in kubectl("get", "pod", "huge", "-o", "json"))
    stops(process)
    assert not holder(), "the lease is given back"
    return took_over


def what_if(*args, stdin=None, code=0):
    done = subprocess.run([WHAT_IF, *args], input=stdin, capture_output=True, text=True, timeout=30)
    assert done.returncode == code, f"{args} ended with {done.returncode}: {done.stderr}\n{done.stdout}"
    return done.stderr if code == 2 else done.stdout


def asked():
    texts = {form: kubectl("get", "nodes,pods,namespaces,configmaps", "-A", "-o", form) for form in ("yaml", "json")}
    asked = file("pod.json", json.dumps(pod("asked")))
    answers = {what_if("-", "--pod", asked, stdin=text) for text in texts.values()}
    assert len(answers) == 1, "what is asked in YAML is answered as in JSON"
    text = answers.pop()
    assert text.startswith("default/asked goes to node-") and "NodeResourcesFit x1" in text, text
    cluster = file("cluster.yaml", texts["yaml"])
    full = nodes_of()["first"]
    command = [cluster, "--config", file("both.yaml", BOTH), "--drain", full, "--output", "json"]
    drained = json.loads(what_if(*command, code=1))["report"]
    moved = {entry["pod"]: entry for entry in drained["moves"]}
    there = {f"default/{name}" for name, node in nodes_of().items() if node == full}
    assert set(moved) == there and all(entry["to"] != full for entry in moved.values()), drained
    assert {entry["pod"] for entry in drained["pending"]} == {"default/huge", "default/stranger"}, drained
    assert "no node \"node-9\"" in what_if(cluster, "--drain", "node-9", code=2)
    broken = file("broken.yaml", texts["yaml"].replace("pods: \"110\"", "pods: some", 1))
    assert "document 1, items[0], Node node-1: " in what_if(broken, code=2)


def main():
    running = []

    def start(*command):
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return running[-1]

    try:
        cluster = start(CLUSTER, "--nodes", "3", "--without-scheduler", "--listen", "127.0.0.1:0", "--kubeconfig", KUBECONFIG)
        until("the kubeconfig is there", lambda: os.path.exists(KUBECONFIG) and os.path.getsize(KUBECONFIG))
        until("the nodes are ready", lambda: kubectl("get", "nodes").count(" Ready ") == 3)
        took_over = scheduled(start)
        asked()
        stops(cluster)
        print(f"a scheduler was killed, the other went on {took_over:.1f}s later")
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
        shutil.rmtree(FOLDER)


main()
