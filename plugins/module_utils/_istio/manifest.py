# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The manifests of a mesh, as a pinned istioctl generates them from an operator file (private: may change without notice).

The same istioctl makes the same manifests of the same file, so they are made once and kept as JSON, which is read fifty times as quickly as YAML.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import typing as t
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._kube.arguments import CONNECTION
from ansible_collections.progressive.platform.plugins.module_utils._kube.bundle import Document, load
from ansible_collections.progressive.platform.plugins.module_utils._local.shell import call, default_cache, unfinished, write_atomic
from ansible_collections.progressive.platform.plugins.module_utils._mirror import sources
from ansible_collections.progressive.platform.plugins.module_utils._mirror.sources import Source
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

ARGUMENTS: dict[str, t.Any] = {
    "istioctl": {"type": "dict", "required": True, "options": sources.OPTIONS},
    "operator": {"type": "dict", "required": True},
    "documents": {"type": "list", "elements": "dict", "options": sources.OPTIONS, "default": []},
    "charts": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "source": {"type": "dict", "required": True, "options": sources.OPTIONS},
            "values": {"type": "dict", "default": {}},
        },
    },
    "helm": {"type": "str", "default": "helm"},
    "cache": {"type": "path"},
    "timeout": {"type": "float", "default": 300.0},
    **CONNECTION,
}
RECIPE = "1"  # raised when other documents are made of the same files
GENERATE_TIMEOUT = 120.0
NO_CLUSTER = {"KUBECONFIG": os.devnull}


def run(params: Params, context: Context) -> Result:
    """What the module does, for its options. It fills a cache and changes nothing else, so check mode makes no difference."""
    cache = Path(params.get("cache") or default_cache() / "sources")
    istioctl = Source.of("istioctl", params["istioctl"])
    (program,) = sources.files(istioctl, cache, context.clock, params["timeout"])
    further = [path for entry in params["documents"] for path in _documents(entry, cache, context, params["timeout"])]
    operator = _plain(params["operator"])
    charts = [_Chart.of(entry, cache, context, params["timeout"]) for entry in params["charts"]]
    wanted = operator if not charts else [operator, *([chart.name, chart.namespace, chart.values] for chart in charts)]
    target = cache / "manifests" / f"{_key(program, wanted, [*further, *(chart.archive for chart in charts)])}.json"
    if not target.is_file():
        context.progress.report("istio", "istioctl generates the manifests")
        check_version(program, istioctl.version)
        found = [document for path in further for document in load(path.read_text(encoding="utf-8"), str(path))]
        found += generate(program, operator, cache)
        for chart in charts:
            context.progress.report("istio", f"helm renders {chart.name}")
            found += chart.render(params["helm"], cache)
        write_atomic(target, json.dumps(found, separators=(",", ":")))
        context.progress.report("istio", "manifests generated", done=True)
    return {"changed": False, "file": str(target), "istioctl": str(program)}


def generate(program: Path, operator: Document, cache: Path) -> list[Document]:
    """The documents of an operator file; PlatformError with istioctl's own words where it refuses the file."""
    file = unfinished(cache / "manifests" / "operator.yaml")
    write_atomic(file, json.dumps(operator))
    try:
        text = call([str(program), "manifest", "generate", "--filename", str(file)], timeout=GENERATE_TIMEOUT, env=NO_CLUSTER)
    finally:
        file.unlink(missing_ok=True)
    found = load(text, "What istioctl generates")
    if not found:
        raise PlatformError(f"{program} generated no manifest at all from the operator file. Try it by hand: istioctl manifest generate.")
    return found


@dataclass(frozen=True)
class _Chart:
    """A Helm chart of others: its archive, and what the release is called and made of."""

    name: str
    namespace: str
    archive: Path
    values: t.Any

    @classmethod
    def of(cls, entry: Params, cache: Path, context: Context, timeout: float) -> _Chart:
        (archive,) = sources.files(Source.of(str(entry["name"]), entry["source"]), cache, context.clock, timeout)
        return cls(str(entry["name"]), str(entry["namespace"]), archive, _plain(entry["values"]))

    def render(self, helm: str, cache: Path) -> list[Document]:
        """Its documents, as ``helm template`` makes them without a cluster; PlatformError with helm's own words where it refuses the values."""
        program = shutil.which(helm)
        if not program:
            raise PlatformError(f"{helm} is wanted to render the chart of {self.name}, and not in PATH. Install Helm 3 where Ansible runs.")
        file = unfinished(cache / "manifests" / "values.yaml")
        write_atomic(file, json.dumps(self.values))
        command = [program, "template", self.name, str(self.archive), "--namespace", self.namespace, "--values", str(file)]
        try:
            text = call(command, timeout=GENERATE_TIMEOUT, env=NO_CLUSTER)
        finally:
            file.unlink(missing_ok=True)
        found = load(text, f"What helm makes of the chart of {self.name}")
        if not found:
            raise PlatformError(f"{program} made no manifest at all of {self.archive}. Try it by hand: helm template {self.archive}.")
        return found


def check_version(program: Path, wanted: str) -> None:
    """PlatformError unless istioctl is of the version wanted: another one would bring another mesh."""
    said = call([str(program), "version", "--remote=false", "--output", "json"], timeout=30.0, env=NO_CLUSTER)
    try:
        seen = str(json.loads(said)["clientVersion"]["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise PlatformError(f"{program} does not say its version: {said[:200]!r}. Is it istioctl?") from error
    if wanted and seen != wanted:
        raise PlatformError(
            f"{program} is version {seen}, and {wanted} is wanted. Correct platform_sources.istioctl: version, and address or path."
        )


def _documents(entry: Params, cache: Path, context: Context, timeout: float) -> list[Path]:
    source = Source.of(str(entry.get("address") or entry.get("path") or "documents").rsplit("/", 1)[-1], entry)
    return sources.files(source, cache, context.clock, timeout)


def _key(program: Path, operator: t.Any, further: list[Path]) -> str:
    """Stands for everything the manifests are made of; a file of this machine by its identity, for nobody edits those of the cache."""
    made_of = [RECIPE, json.dumps(operator, sort_keys=True)]
    for path in (program, *further):
        status = path.stat()
        made_of.append(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:32]


def _plain(value: t.Any) -> t.Any:
    """Plain JSON types, and without what is null: a variable that is switched off."""
    return _without_null(json.loads(json.dumps(value)))


def _without_null(value: t.Any) -> t.Any:
    if isinstance(value, dict):
        return {key: _without_null(inner) for key, inner in value.items() if inner is not None}
    return [_without_null(inner) for inner in value] if isinstance(value, list) else value
