"""Kills the example cluster in the middle of a rollout of 1,000 pods, starts it again on the same folder, and
waits until the rollout is complete. Usage: survive.py CLUSTER_BINARY [PODS]"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from kubernetes import client, config

CLUSTER = sys.argv[1]
PODS = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
FOLDER = tempfile.mkdtemp(prefix="rkube-survive-")
KUBECONFIG = os.path.join(FOLDER, "kubeconfig")
SECONDS = 300


def start(running):
    """A cluster on the folder, and its clients."""
    process = subprocess.Popen(
        [CLUSTER, "--nodes", str(PODS // 80 + 1), "--listen", "127.0.0.1:0", "--kubeconfig", KUBECONFIG,
         "--data", os.path.join(FOLDER, "data")],
        stdout=subprocess.PIPE, text=True)
    running.append(process)
    assert "serves" in process.stdout.readline(), "the cluster did not start"
    config.load_kube_config(KUBECONFIG)
    return process, client.AppsV1Api(), client.CoreV1Api()


def until(what, check):
    """Waits until a check holds: a client of a live cluster has nothing else to wait for."""
    deadline = time.monotonic() + SECONDS
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, f"did not happen: {what}"
        time.sleep(0.05)


def deployment(image):
    container = {"name": "web", "image": image, "resources": {"requests": {"cpu": "10m"}}}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}
    spec = {"replicas": PODS, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"metadata": {"name": "web"}, "spec": spec}


def status(apps):
    now = apps.read_namespaced_deployment_status("web", "default").status
    return now.updated_replicas or 0, now.available_replicas or 0, now.replicas or 0


def under_way(apps):
    """How many pods are of the new kind, once some are and some are not: before the controller has looked, the
    status is that of the old pods, all of them up to date."""
    updated, _, _ = status(apps)
    return updated if PODS // 5 <= updated < PODS else None


def rollout(start):
    process, apps, core = start()
    apps.create_namespaced_deployment("default", deployment("nginx:1"))
    until("all pods run", lambda: status(apps) == (PODS, PODS, PODS))
    began = {pod.metadata.uid for pod in core.list_namespaced_pod("default").items}
    apps.patch_namespaced_deployment("web", "default", deployment("nginx:2"))
    at = until("the rollout is seen under way", lambda: under_way(apps))
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = time.monotonic()

    process, apps, core = start()
    after = status(apps)[0]
    assert after >= at, f"it was at {at}, and fell back to {after}"
    until("the rollout is complete", lambda: status(apps) == (PODS, PODS, PODS))
    until("the old pods are gone", lambda: len(core.list_namespaced_pod("default").items) == PODS)
    pods = core.list_namespaced_pod("default").items
    assert {pod.spec.containers[0].image for pod in pods} == {"nginx:2"}
    assert all(pod.status.phase == "Running" for pod in pods)
    uids, addresses = {pod.metadata.uid for pod in pods}, {pod.status.pod_ip for pod in pods}
    assert len(uids) == PODS and not uids & began, "a UID was given twice"
    assert len(addresses) == PODS, "an address was given twice"
    print(f"killed at {at} of {PODS}, found {after}, complete {time.monotonic() - killed:.1f}s later")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


def main():
    running = []
    try:
        rollout(lambda: start(running))
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
        shutil.rmtree(FOLDER)


main()
