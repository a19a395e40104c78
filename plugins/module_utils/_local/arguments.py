# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the module ``local_cluster``, and the function behind it: one provider does the work."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._kube.arguments import CONNECTION
from ansible_collections.progressive.platform.plugins.module_utils._local import builds, images, layout, providers
from ansible_collections.progressive.platform.plugins.module_utils._local.cluster import LocalCluster
from ansible_collections.progressive.platform.plugins.module_utils._local.shell import default_cache
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

ARGUMENTS: dict[str, t.Any] = {
    "state": {"type": "str", "choices": ["up", "down", "status"], "default": "up"},
    "provider": {"type": "str", "choices": ["modules", "kind", "existing"], "default": "modules"},
    "cache": {"type": "path"},
    "sources": {"type": "path"},
    "nodes": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "zone": {"type": "str"},
            "pool": {"type": "str"},
            "labels": {"type": "dict", "default": {}},
            "taints": {"type": "list", "elements": "raw", "default": []},
        },
    },
    "pools": {"type": "dict", "default": {}},
    "programs": {"type": "dict", "default": {}},
    "packages": {"type": "list", "elements": "str", "default": []},
    "components": {"type": "dict", "default": {}},
    "images": {"type": "list", "elements": "path", "default": []},
    "node_network": {"type": "str", "default": "10.111.0.0/24"},
    "pod_network": {"type": "str", "default": "10.244.0.0/16"},
    "service_network": {"type": "str", "default": "10.96.0.0/16"},
    "node_grace": {"type": "int", "default": 40},
    "wait_timeout": {"type": "float", "default": 300.0},
    "build_timeout": {"type": "float", "default": 3600.0},
    **CONNECTION,
}


def component_images(params: Params, cluster: layout.Cluster) -> dict[str, images.Image]:
    """The components' images; a file of theirs is the name of a program, or a path of this machine."""

    def source(text: str) -> Path:
        if text.startswith("/"):
            return Path(text)
        if text not in cluster.programs:
            raise PlatformError(
                f"local_cluster_components names {text}, which is neither a path nor one of the programs {', '.join(cluster.programs)}."
            )
        return cluster.paths.binaries / cluster.programs[text].file

    components: Mapping[str, Mapping[str, t.Any]] = params["components"]
    return {
        name: images.Image(
            reference=f"{layout.REPOSITORY}/{name}:{options['tag']}",
            files={path: source(file) for path, file in options["files"].items()},
            entrypoint=tuple(options.get("entrypoint") or ()),
            user=str(options.get("user") or ""),
            links=options.get("links") or {},
        )
        for name, options in components.items()
    }


def run(params: Params, context: Context) -> Result:
    """What the module does, for its options and in check mode too."""
    options = {**params, "cache": params.get("cache") or str(default_cache())}
    if options["provider"] == "existing":
        return providers.existing(options)
    if options["provider"] == "kind":
        return providers.kind(options, context)
    cluster = layout.make_cluster(options)
    local = LocalCluster(
        cluster,
        context,
        builder=builds.Builder(
            sources=Path(options.get("sources") or "."),
            work=cluster.paths.sources,
            binaries=cluster.paths.binaries,
            logs=cluster.paths.logs,
            timeout=options["build_timeout"],
        ),
        packages=options["packages"],
        component_images=component_images(options, cluster),
        extra_archives=[Path(archive) for archive in options["images"]],
        timeout=options["wait_timeout"],
    )
    return {"up": local.up, "down": local.down, "status": local.status}[options["state"]]()
