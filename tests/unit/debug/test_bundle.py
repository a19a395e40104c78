# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The archive: what is asked for, what leaves and what does not, with hostile logs."""

from __future__ import annotations

import base64
import json
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.progressive.platform.plugins.module_utils._debug import bundle
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError
from ansible_collections.progressive.platform.plugins.module_utils._kube.discovery import Resource
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError

from .scenes import LABELS, meta, shop, unready

Json = dict[str, Any]

PATTERNED = "tr0ub4dor-patterned"  # stands after a telling name
PLAIN = "staplebattery"  # looks like any word: only who knows it can hide it
HOSTILE = [
    f"DB_PASSWORD={PATTERNED}",
    f'{{"msg":"{{\\"token\\":\\"{PATTERNED}\\"}}"}}',
    f"postgresql://app:{PATTERNED}@postgres/app failed",
    f"Authorization: Bearer {PATTERNED}",
    f"ALTER USER app PASSWORD '{PATTERNED}'",
    f"the word is {PLAIN}",
    f"encoded {base64.b64encode(PLAIN.encode()).decode()}",
    "a" * 100_000 + f" password={PATTERNED}",
]
KINDS = {
    "Pod": "v1",
    "Event": "v1",
    "Service": "v1",
    "ConfigMap": "v1",
    "Secret": "v1",
    "Node": "v1",
    "Namespace": "v1",
    "StatefulSet": "apps/v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    "StorageClass": "storage.k8s.io/v1",
}
CLUSTER_WIDE = ("Node", "Namespace", "StorageClass")


class Server:
    """Answers as a client does, and remembers what it was asked."""

    def __init__(self, objects: dict[str, list[Json]], logs: dict[str, str]) -> None:
        self.objects, self.logs = objects, logs
        self.asked: list[str] = []
        self.forbidden: set[str] = set()
        self.discovery = self
        self.access = self
        self.namespace = "shop"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def __str__(self) -> str:
        return "https://server"

    def all(self) -> dict[tuple[str, str], Resource]:
        return {(version, kind): Resource(version, kind, kind.lower() + "s", kind not in CLUSTER_WIDE) for kind, version in KINDS.items()}

    def resource(self, api_version: str, kind: str) -> Resource:
        return self.all()[api_version, kind]

    def list(self, resource: Resource, namespace: str | None = None) -> Json:
        self.asked.append(resource.path(namespace))
        if resource.kind in self.forbidden:
            raise ApiError("no", 403, "Forbidden")
        return {"items": self.objects.get(resource.kind, []) if namespace != "kube-system" else []}

    def find(self, path: str) -> Json | None:
        self.asked.append(path)
        return next(iter(self.objects["Namespace"]), None)

    def text(self, path: str, timeout: float, container: str, previous: bool | None, **_query: Any) -> str:
        self.asked.append(path)
        if previous:
            raise ApiError("gone", 400, "BadRequest")
        return self.logs.get(path.split("/")[-2], "")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    objects = shop()
    unready(objects)["spec"]["containers"][0]["env"] = [
        {"name": "API_TOKEN", "value": PATTERNED},
        {"name": "NOTE", "value": f"pwd={PATTERNED}"},
    ]
    objects["Pod"][0]["metadata"]["annotations"] = {"example.com/secret": PATTERNED}
    objects["ConfigMap"] = [{"metadata": meta("settings"), "data": {"redis.conf": f"requirepass {PATTERNED}", "level": "info"}}]
    data = {"password": base64.b64encode(PLAIN.encode()).decode()}
    objects["Secret"] = [{"metadata": meta("app"), "data": data}]
    objects["Event"] = [
        {
            "type": "Warning",
            "reason": "Odd",
            "message": f"token={PATTERNED}",
            "involvedObject": {"kind": "Pod", "name": "web-1"},
            "metadata": {},
        }
    ]
    made = Server(objects, {"web-1": "\n".join(HOSTILE)})
    monkeypatch.setattr(bundle, "connect", lambda _params, _clock: made)
    return made


def call(check: bool = False, **given: Any) -> Json:
    checked = ArgumentSpecValidator(bundle.ARGUMENTS).validate({"namespace": "shop", **given})
    assert not checked.error_messages
    return bundle.run(checked.validated_parameters, Context(check=check))


def contents(path: str) -> dict[str, str]:
    with tarfile.open(path) as archive:
        return {it.name.partition("/")[2]: archive.extractfile(it).read().decode() for it in archive.getmembers()}  # type: ignore[union-attr]


def test_nothing_that_looks_like_a_secret_leaves(server: Server, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/cluster.json").write_text(json.dumps({"password": PATTERNED, "state": "ok"}))
    result = call(dest=str(tmp_path / "out/bundle.tar.gz"), files=[str(tmp_path / "more")])
    files = contents(result["dest"])
    assert PATTERNED not in "".join(files.values())
    assert PATTERNED not in json.dumps(result)
    assert result["hidden"] >= len(HOSTILE) - 2
    assert stat.S_IMODE(Path(result["dest"]).stat().st_mode) == 0o600
    assert set(files) >= {
        "summary.txt",
        "findings.json",
        "manifest.json",
        "events.txt",
        "objects/pod.json",
        "objects/configmap.json",
        "logs/web-1/app.log",
        "files/more/cluster.json",
    }
    assert json.loads(files["files/more/cluster.json"])["state"] == "ok"
    assert "the word is" in files["logs/web-1/app.log"], "what is no secret stays"


def test_secrets_are_never_asked_for(server: Server, tmp_path: Path) -> None:
    result = call(dest=str(tmp_path))
    assert server.asked
    assert not [path for path in server.asked if "secret" in path]
    assert "objects/secret.json" not in contents(result["dest"])


@pytest.mark.parametrize("given", [{"hide": [PLAIN]}, {"known_from_secrets": True}])
def test_a_known_value_does_not_leave_in_any_dress(server: Server, tmp_path: Path, given: Json) -> None:
    files = contents(call(dest=str(tmp_path), **given)["dest"])
    everything = "".join(files.values())
    assert PLAIN not in everything
    assert base64.b64encode(PLAIN.encode()).decode().rstrip("=") not in everything
    assert "objects/secret.json" not in files


def test_without_knowing_it_a_plain_word_is_seen(server: Server, tmp_path: Path) -> None:
    """The limit that the documentation names; when this fails, the documentation is to be corrected."""
    assert PLAIN in contents(call(dest=str(tmp_path))["dest"])["logs/web-1/app.log"]


def test_check_mode_writes_nothing(server: Server, tmp_path: Path) -> None:
    result = call(check=True, dest=str(tmp_path / "x.tar.gz"))
    assert not result["changed"]
    assert not list(tmp_path.iterdir())
    assert result["findings"]


def test_a_workload_has_only_its_own(server: Server, tmp_path: Path) -> None:
    server.objects["Service"].append({"metadata": meta("other"), "spec": {"selector": {"app": "other"}, "ports": []}})
    everything, own = call(), call(workload="web", dest=str(tmp_path))
    assert {it["name"] for it in everything["findings"]} == {"web", "web-service", "other"}
    assert {it["name"] for it in own["findings"]} == {"web", "web-service"}
    services = json.loads(contents(own["dest"])["objects/service.json"])
    assert [it["spec"]["selector"] for it in services] == [LABELS]
    assert call(workload="StatefulSet/web")["findings"] == own["findings"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"workload": "Deployment/web"}, "there is no 'Deployment/web' in namespace shop; there are StatefulSet/web"),
        ({"log_lines": 0}, "log_lines is 0"),
        ({"fail": True}, "StatefulSet web: 0 of 1 pods are ready"),
        ({"dest": "/proc/nowhere/x.tar.gz"}, "cannot be written"),
    ],
)
def test_what_is_wrong_is_said(server: Server, given: Json, words: str) -> None:
    with pytest.raises(PlatformError) as error:
        call(**given)
    assert words in error.value.message
    assert PATTERNED not in error.value.message


def test_no_such_namespace(server: Server) -> None:
    server.objects["Namespace"] = []
    with pytest.raises(PlatformError, match="There is no namespace 'shop'"):
        call()


def test_what_may_not_be_read_is_named_and_the_rest_goes_on(server: Server) -> None:
    server.forbidden = {"Node", "ConfigMap"}
    result = call()
    assert [it for it in result["missing"] if "403" in it] == ["ConfigMap in shop: 403 Forbidden", "Node in shop: 403 Forbidden"]
    assert result["findings"]
