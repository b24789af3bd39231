"""Runs the example programs that need a partner: `apiserver` with kubectl, `custom_controller` on a cluster that
is another process, and clients that watch a cluster which is killed.
Usage: examples.py FOLDER_OF_EXAMPLES KUBECTL_BINARY"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import urllib3
from kubernetes import client, config, watch

EXAMPLES, KUBECTL = sys.argv[1:3]
FOLDER = tempfile.mkdtemp(prefix="rkube-examples-")
RUNNING = []


def start(name, *args, **how):
    process = subprocess.Popen([os.path.join(EXAMPLES, name), *args], text=True, **how)
    RUNNING.append(process)
    return process


def end(process, number=signal.SIGINT):
    process.send_signal(number)
    return process.wait(60)


def until(what, check, seconds=60):
    """Waits until a check holds: a client of a live cluster has nothing else to wait for."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, f"did not happen: {what}"
        time.sleep(0.05)


def command(kubeconfig, *args):
    return [KUBECTL, "--kubeconfig", kubeconfig, "--cache-dir", os.path.join(FOLDER, "cache"), *args]


def kubectl(kubeconfig, *args):
    done = subprocess.run(command(kubeconfig, *args), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{args}: {done.stderr}"
    return done.stdout


def cluster(kubeconfig, *args):
    process = start("cluster", "--kubeconfig", kubeconfig, *args, stdout=subprocess.PIPE)
    assert "serves" in process.stdout.readline(), "the cluster did not start"
    return process


def server_alone():
    kubeconfig = os.path.join(FOLDER, "alone")
    process = start("apiserver", "127.0.0.1:0", kubeconfig, stderr=subprocess.PIPE)
    assert "serving on https://" in process.stderr.readline()
    names = kubectl(kubeconfig, "get", "namespaces", "-o", "name").split()
    assert names == [f"namespace/{name}" for name in ("default", "kube-node-lease", "kube-public", "kube-system")], names
    end(process, signal.SIGTERM)


def own_controller_elsewhere():
    """The controller of the example keeps a ConfigMap `team` in each namespace with that label."""
    kubeconfig = os.path.join(FOLDER, "elsewhere")
    served = cluster(kubeconfig, "--nodes", "1", "--listen", "127.0.0.1:0")
    controller = start("custom_controller", "--kubeconfig", kubeconfig)

    def team():
        found = json.loads(kubectl(kubeconfig, "-n", "shop", "get", "configmaps", "-o", "json"))["items"]
        return next((one["data"]["team"] for one in found if one["metadata"]["name"] == "team"), None)

    kubectl(kubeconfig, "create", "namespace", "shop")
    kubectl(kubeconfig, "label", "namespace", "shop", "team=blue")
    until("shop belongs to blue", lambda: team() == "blue")
    kubectl(kubeconfig, "label", "namespace", "shop", "team=red", "--overwrite")
    until("shop belongs to red", lambda: team() == "red")
    kubectl(kubeconfig, "-n", "shop", "delete", "configmap", "team")
    until("what was deleted is back", lambda: team() == "red")
    assert end(controller) == 0, "the controller stops cleanly on Ctrl-C"
    end(served)


class Watcher(threading.Thread):
    """Watches the ConfigMaps of `default` with Python until the connection breaks; `error` is how."""

    def __init__(self, since=None):
        super().__init__(daemon=True)
        self.seen, self.since, self.error = [], since, None

    def run(self):
        how = {"resource_version": self.since} if self.since else {}
        core = client.CoreV1Api(client.ApiClient(client.Configuration.get_default_copy()))
        try:
            for event in watch.Watch().stream(core.list_namespaced_config_map, "default", **how):
                self.seen.append((event["type"], event["object"].metadata.name))
                self.since = event["object"].metadata.resource_version
        except urllib3.exceptions.HTTPError as error:
            self.error = error

    def has(self, name):
        return ("ADDED", name) in self.seen


def server_killed_in_mid_watch():
    """Watchers of a server that is killed are told so at once, have whole events only, and go on after the last of
    them when a server is there again: none is missed, none comes twice."""
    kubeconfig, data = os.path.join(FOLDER, "killed"), os.path.join(FOLDER, "data")
    served = cluster(kubeconfig, "--nodes", "1", "--listen", "127.0.0.1:0", "--data", data)
    with open(kubeconfig) as file:
        address = re.search(r"server: https://(\S+)", file.read())[1]
    config.load_kube_config(kubeconfig)
    core = client.CoreV1Api()

    def create(name):
        core.create_namespaced_config_map("default", client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name)))

    follow = command(kubeconfig, "get", "configmaps", "-w", "--output-watch-events")
    shown = os.path.join(FOLDER, "shown")
    with open(shown, "w") as out:
        follower = subprocess.Popen(follow, stdout=out, stderr=subprocess.PIPE, text=True)
    RUNNING.append(follower)
    watcher = Watcher()
    watcher.start()
    create("before")
    until("both watch", lambda: watcher.has("before") and "before" in open(shown).read())
    for number in range(50):
        create(f"early-{number}")
    end(served, signal.SIGKILL)
    killed = time.monotonic()
    watcher.join(30)
    assert watcher.error is not None, "the watch goes on without a server"
    told = follower.communicate(timeout=30)[1]
    seconds = time.monotonic() - killed
    lines = open(shown).read()
    assert lines.endswith("\n") and all(len(line.split()) == 4 for line in lines.splitlines()), lines

    served = cluster(kubeconfig, "--nodes", "1", "--listen", address, "--data", data)
    config.load_kube_config(kubeconfig)
    later = Watcher(watcher.since)
    later.start()
    client.CoreV1Api().create_namespaced_config_map(
        "default", client.V1ConfigMap(metadata=client.V1ObjectMeta(name="after")))
    until("the watch goes on", lambda: later.has("after"))
    added = [name for kind, name in watcher.seen + later.seen if kind == "ADDED" and name.startswith("early-")]
    assert added == [f"early-{number}" for number in range(50)], added
    print(f"   within {seconds:.1f}s: Python {type(watcher.error).__name__}, kubectl {follower.returncode} "
          f"{told.strip()!r}; {len(watcher.seen)} events before, {len(later.seen)} after")
    end(served)


def main():
    try:
        for check in (server_alone, own_controller_elsewhere, server_killed_in_mid_watch):
            began = time.monotonic()
            check()
            print(f"ok {check.__name__} ({time.monotonic() - began:.1f}s)", flush=True)
    finally:
        for process in RUNNING:
            if process.poll() is None:
                process.kill()
        shutil.rmtree(FOLDER)


main()
