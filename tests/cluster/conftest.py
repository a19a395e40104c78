# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What tests on a real cluster share: the cluster itself (`make up`, or E(KUBECONFIG)), and a namespace of the test's own."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.progressive.platform.plugins.module_utils._kube import apply, secret, wait
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client, connect
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "progressive-platform"
RUN_TIMEOUT = 300  # seconds a playbook or kubectl may take

Json = dict[str, Any]
Module = Callable[..., Json]


@pytest.fixture(scope="session")
def kubeconfig() -> str:
    """The path; a test that has no cluster fails and says how to get one."""
    path = os.environ.get("KUBECONFIG") or str(CACHE / "run/kubeconfig")
    assert Path(path).exists(), f"{path} does not exist: run `make up`, or set KUBECONFIG"
    return path


@pytest.fixture(scope="session")
def client(kubeconfig: str) -> Iterator[Client]:
    with connect({"kubeconfig": kubeconfig}) as connected:
        yield connected


@pytest.fixture(scope="session")
def kubectl(kubeconfig: str) -> Callable[..., str]:
    """Calls kubectl and gives what it printed; a failure fails the test unless ``check=False``."""

    def call(*arguments: str, check: bool = True, stdin: str | None = None, **environment: str) -> str:
        binary = CACHE / "bin/kubectl"
        command = [str(binary) if binary.exists() else "kubectl", "--kubeconfig", kubeconfig, *arguments]
        env = {**os.environ, **environment}
        done = subprocess.run(command, input=stdin, env=env, capture_output=True, text=True, timeout=RUN_TIMEOUT, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout + ("" if check else done.stderr)

    return call


@pytest.fixture
def namespace(client: Client) -> Iterator[str]:
    """A namespace of the test's own; it is deleted afterwards, with everything in it."""
    name = f"test-{secrets.token_hex(4)}"
    spaces = client.resource("v1", "Namespace")
    client.request("POST", spaces.path(), {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    # What controllers put into every namespace must not appear in the middle of a test that counts objects.
    deadline = time.monotonic() + 30
    for kind, given in (("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")):
        while client.find(client.resource("v1", kind).path(name, given)) is None:
            assert time.monotonic() < deadline, f"the cluster's controllers do not make {kind} {given}"
            time.sleep(0.05)
    yield name
    client.request("DELETE", spaces.path(None, name))


@pytest.fixture
def absent_namespace(client: Client) -> Iterator[str]:
    """The name of a namespace that does not exist; deleted afterwards if the test made it."""
    name = f"test-{secrets.token_hex(4)}"
    yield name
    try:
        client.request("DELETE", client.resource("v1", "Namespace").path(None, name))
    except ApiError as error:
        assert error.status == 404, error.message


def _module(function: Any, arguments: Json, constraints: Json, defaults: Json) -> Module:
    def call(check: bool = False, diff: bool = False, **given: Any) -> Json:
        checked = ArgumentSpecValidator(arguments, **constraints).validate({**defaults, **given})
        assert not checked.error_messages, checked.error_messages
        try:
            return dict(function(checked.validated_parameters, Context(check=check, diff=diff)))
        except PlatformError as error:
            return {"failed": True, "msg": error.message, **error.details}

    return call


@pytest.fixture
def apply_module(kubeconfig: str) -> Module:
    """The function behind ``apply`` as a task calls it; a failure is a result with ``failed`` and ``msg``."""
    return _module(apply.run, apply.ARGUMENTS, apply.CONSTRAINTS, {"kubeconfig": kubeconfig})


@pytest.fixture
def wait_module(kubeconfig: str) -> Module:
    return _module(wait.run, wait.ARGUMENTS, {}, {"kubeconfig": kubeconfig})


@pytest.fixture
def secret_module(kubeconfig: str) -> Module:
    return _module(secret.run, secret.ARGUMENTS, {}, {"kubeconfig": kubeconfig})


@pytest.fixture
def versions(client: Client) -> Callable[..., dict[str, str]]:
    """uid and resourceVersion of everything of some kinds in a namespace, to prove that nothing moved."""

    def read(namespace: str, *kinds: tuple[str, str]) -> dict[str, str]:
        found = {}
        for api_version, kind in kinds or (("v1", "ConfigMap"), ("v1", "Secret"), ("v1", "Service"), ("apps/v1", "Deployment")):
            for item in client.list(client.resource(api_version, kind), namespace)["items"]:
                metadata = item["metadata"]
                found[f"{kind}/{metadata['name']}"] = f"{metadata['uid']} {metadata['resourceVersion']}"
        return found

    return read


@pytest.fixture
def play(tmp_path: Path, kubeconfig: str) -> Callable[..., tuple[Json, str]]:
    """Runs tasks with ansible-playbook: (the last task's result, everything that was printed with -vvv).

    ``connection="local"`` takes the way through the action plugin's worker; ``connection="community.general.chroot"`` (of ``/``)
    is a connection that is not local, so that the ordinary module is sent and run as on another host.
    """

    def run(tasks: list[Json], *options: str, connection: str = "local", templates: dict[str, str] | None = None) -> tuple[Json, str]:
        defaults = {"group/progressive.platform.platform": {"kubeconfig": kubeconfig}}
        result = tmp_path / "result.json"
        content = {
            "ansible.builtin.copy": {"content": "{{ outcome | to_json }}", "dest": str(result)},
            "delegate_to": "localhost",
            "check_mode": False,
        }
        last = {**tasks[-1], "register": "outcome", "ignore_errors": True}
        steps = [*tasks[:-1], last, {**content, "no_log": True, "vars": {"ansible_connection": "local"}}]
        playbook = [{"hosts": "all", "gather_facts": False, "module_defaults": defaults, "tasks": steps}]
        (tmp_path / "play.yml").write_text(yaml.safe_dump(playbook, sort_keys=False))
        host = {"ansible_connection": connection, "ansible_host": "/", "ansible_python_interpreter": str(ROOT / ".venv/bin/python")}
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"cluster": host}}}))
        (tmp_path / "templates").mkdir(exist_ok=True)
        for name, text in (templates or {}).items():
            (tmp_path / "templates" / name).write_text(text)
        command = [str(ROOT / ".venv/bin/ansible-playbook"), "-vvv", "-i", "hosts.yml", "play.yml", *options]
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=RUN_TIMEOUT, check=False)
        printed = done.stdout + done.stderr
        assert result.exists(), printed
        return json.loads(result.read_text()), printed

    return run
