"""What Snakemake asks of a Kubernetes cluster with our profile: answered by a stand-in, held against the API's schema.

No cluster is needed: the stand-in takes what is posted and says that jobs have failed. It needs rsync, and Snakemake's
environment with ``kubernetes-validate`` in it, which carries the schemas of the API.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from experiments.plan import catalogue
from experiments.plan.task import ROOT, Task
from tests.support.snakemake import OWN, needs_snakemake, words

VALIDATE = OWN.parent / "kubernetes-validate"
JOBS_PATH = "/apis/batch/v1/namespaces/default/jobs"


class Cluster(ThreadingHTTPServer):
    """An API server that notes what it is given; every job of it fails."""

    posted: list[dict[str, Any]]


class Answers(BaseHTTPRequestHandler):
    """What Snakemake's executor asks, answered as briefly as the API allows."""

    server: Cluster

    def answer(self, document: dict[str, Any], code: int = 200) -> None:
        text = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.posted.append({"path": self.path, "body": body})
        self.answer(body, 201)

    def do_GET(self) -> None:
        if self.path.startswith(JOBS_PATH):
            self.answer({"kind": "Job", "apiVersion": "batch/v1", "metadata": {}, "status": {"failed": 1}})
        else:
            self.answer({"kind": "PodList", "apiVersion": "v1", "items": []})

    def do_DELETE(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    needs_snakemake()
    if not VALIDATE.exists() or not shutil.which("rsync"):
        lacking = f"rsync or the schemas are not installed ({OWN.parent}/python -m pip install kubernetes-validate)"
        assert "CI" not in os.environ, lacking
        pytest.skip(lacking)
    server = Cluster(("127.0.0.1", 0), Answers)
    server.posted = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = {"server": f"http://127.0.0.1:{server.server_port}"}
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "here", "users": [{"name": "me", "user": {}}]}
    config |= {"clusters": [{"name": "here", "cluster": here}]}
    config |= {"contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}]}
    (tmp_path / "kube").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kube"))
    yield server
    server.shutdown()


def submitted(cluster: Cluster, tmp_path: Path, task: Task) -> dict[str, Any]:
    """The job that the cluster was given for a task, valid by the API's schema, and its one container."""
    marker = tmp_path / "results" / "plan" / f"{task.name}.done"
    shutil.copy(ROOT / "Snakefile", tmp_path)  # it is sent to the jobs from below the working directory
    start = words(tmp_path / "results", str(marker), f"root={ROOT}", "markers=keep", profile="k8s")
    start[start.index("--snakefile") + 1] = str(tmp_path / "Snakefile")
    more = ["--kubernetes-persistent-volumes", f"tessera:{tmp_path}", "--default-storage-prefix", str(tmp_path)]
    more += ["--retries", "0", "--seconds-between-status-checks", "1"]
    command = [start[0], *more, *start[1:]]
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=False, timeout=300)
    jobs = [one["body"] for one in cluster.posted if one["path"].startswith(JOBS_PATH)]
    assert jobs, done.stdout + done.stderr
    jobs[-1] |= {"apiVersion": "batch/v1", "kind": "Job"}  # which the client leaves to the address
    (tmp_path / "job.json").write_text(json.dumps(jobs[-1]))
    checked = subprocess.run([VALIDATE, "--strict", "--no-warn", tmp_path / "job.json"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return jobs[-1]


def test_a_job_is_valid_and_has_the_volume_and_the_command(cluster, tmp_path):
    task = next(task for task in catalogue.TASKS if task.name == "png-sample-lossless")
    spec = submitted(cluster, tmp_path, task)["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["restartPolicy"] == "Never" and container["image"] == "tessera:latest"
    assert {"mountPath": str(tmp_path), "name": "tessera"} in container["volumeMounts"]
    assert any(v.get("persistentVolumeClaim") == {"claimName": "tessera"} for v in spec["volumes"])
    assert container["resources"]["requests"]["memory"] == "8000M" and "limits" not in container["resources"]
    assert task.name in container["args"][1] and "snakemake" in container["args"][1]


def test_what_is_wrong_is_found_out(cluster, tmp_path):
    (tmp_path / "job.json").write_text(json.dumps({"apiVersion": "batch/v1", "kind": "Job", "spec": {"templat": {}}}))
    checked = subprocess.run([VALIDATE, "--strict", "--no-warn", tmp_path / "job.json"], capture_output=True, text=True)
    assert checked.returncode and "templat" in checked.stdout + checked.stderr


def test_gpus_are_requested_and_limited(cluster, tmp_path):
    """Kubernetes refuses a request for GPUs without an equal limit."""
    task = next(task for task in catalogue.TASKS if task.gpus and not task.after)
    resources = submitted(cluster, tmp_path, task)["spec"]["template"]["spec"]["containers"][0]["resources"]
    wanted = str(task.gpus)
    assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"] == wanted
