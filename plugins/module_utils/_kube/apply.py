# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bundle sent by server-side apply, as one ApplySet (private: may change without notice).

    parse ── order ── list what is there ── apply, what needs nothing first ── prune ── wait
                      (one request a kind)  (dry run in check mode)

The server is asked once for what each kind of the set looks like now. What is as the document says, and owned field for field, needs no
request. The answers to the other patches tell what changed: a resourceVersion that moved, or in check mode an object that would look
different. No hash is kept anywhere, so drift shows.
"""

from __future__ import annotations

import base64
import json
import os
import re
import threading
import typing as t
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._kube import (
    bundle,
    deprecations,
    drift,
    graph,
    leftovers,
    masks,
    rollout,
)
from ansible_collections.progressive.platform.plugins.module_utils._kube.applyset import PART_OF, ApplySet, Contents, applied_by
from ansible_collections.progressive.platform.plugins.module_utils._kube.arguments import CONNECTION, WAIT
from ansible_collections.progressive.platform.plugins.module_utils._kube.bundle import Document, Key, key_of
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import APPLY, ApiError, Client, connect
from ansible_collections.progressive.platform.plugins.module_utils._kube.discovery import Resource, UnknownKind
from ansible_collections.progressive.platform.plugins.module_utils._kube.leftovers import held
from ansible_collections.progressive.platform.plugins.module_utils._kube.readiness import State, readiness
from ansible_collections.progressive.platform.plugins.module_utils._kube.redact import Redactor
from ansible_collections.progressive.platform.plugins.module_utils._kube.unchanged import would_change
from ansible_collections.progressive.platform.plugins.module_utils._kube.wait import served, wait
from ansible_collections.progressive.platform.plugins.module_utils._kube.watch import DELETED, LISTED, Source, Streams, named
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

Json = dict[str, t.Any]

ARGUMENTS: dict[str, t.Any] = {
    "set": {"type": "str", "required": True},
    "namespace": {"type": "str"},
    "templates": {"type": "list", "elements": "str", "default": []},
    "files": {"type": "list", "elements": "path", "default": []},
    "definition": {"type": "raw"},
    "state": {"type": "str", "choices": ["present", "absent", "rendered", "compared"], "default": "present"},
    "prune": {"type": "bool", "default": True},
    "force": {"type": "bool", "default": False},
    "scale_in": {"type": "bool", "default": True},
    "keep_volumes": {"type": "bool", "default": False},
    "dest": {"type": "path"},
    "sealed": {"type": "str", "no_log": True},
    **WAIT,
    **CONNECTION,
}
CONSTRAINTS: dict[str, t.Any] = {"required_if": [("state", "rendered", ["dest"])]}

YIELDS = "progressive.platform/yields"
SET_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?")
WORKERS = 24  # threads; how many of them really send at once is the client's limiter's business
# How the API server refuses an unknown field or a wrong type in a server-side apply, with the status 500.
TYPED = re.compile(r"failed to create typed patch object \([^)]*\): (?:errors:\s*)?(.*)", re.DOTALL)
ESTABLISH_TIMEOUT = 60.0  # seconds for a CustomResourceDefinition or an APIService to serve its kinds
# How OpenShift refuses a Route whose certificate its router may not read, or which is not there (openshift/library-go, pkg/route/validation). Both may
# have been sent just before: rights take a moment until every server knows them, and an issuer takes some.
UNREADABLE = re.compile(r"externalCertificate: (?:Not found|Forbidden: router serviceaccount)")
UNREADABLE_TIMEOUT = 60.0
FREED_TIMEOUT = 60.0  # seconds for a former owner's finalizers, and for the server to take away what it owned
# A set that no longer names one of these may have done so by accident, and with it goes data that is not in the set.
KEPT = frozenset({("", "Namespace"), ("", "PersistentVolumeClaim"), ("apiextensions.k8s.io", "CustomResourceDefinition")})
GATES = frozenset({"CustomResourceDefinition", "APIService"})
# Kubernetes' own kinds that belong to no namespace, for rendering without a server.
CLUSTER_WIDE = frozenset(
    {
        "APIService",
        "CertificateSigningRequest",
        "ClusterRole",
        "ClusterRoleBinding",
        "CSIDriver",
        "CustomResourceDefinition",
        "FlowSchema",
        "GatewayClass",
        "IngressClass",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "MutatingWebhookConfiguration",
        "Namespace",
        "Node",
        "PersistentVolume",
        "PriorityClass",
        "PriorityLevelConfiguration",
        "RuntimeClass",
        "StorageClass",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
        "VolumeAttributesClass",
    }
)


@dataclass
class Change:
    """What became of one object. ``action``: created, configured, unchanged, pruned, deleted or kept; the object as the server shows it, and the document
    as it was ``sent``."""

    key: Key
    api_version: str
    action: str
    before: Json | None = None
    after: Json | None = None
    warnings: list[str] = field(default_factory=list)
    sent: Json | None = None

    @property
    def changed(self) -> bool:
        return self.action not in ("unchanged", "kept")

    def described(self) -> Json:
        return {
            "apiVersion": self.api_version,
            "kind": self.key.kind,
            "namespace": self.key.namespace,
            "name": self.key.name,
            "action": self.action,
        }


def run(params: Params, context: Context) -> Result:
    """The module: ``params`` as ARGUMENTS describes them, ``templates`` already rendered into ``definition``."""
    if params["templates"] or params["files"]:
        raise PlatformError(
            "Templates are rendered on the controller, and files read there: call progressive.platform.apply as a task, not its module by itself."
        )
    if not SET_NAME.fullmatch(params["set"]):
        raise PlatformError(f"set: {params['set']!r} is no name for a set; lower case letters, digits and '-', at most 53 characters.")
    documents = unseal(bundle.parse(params["definition"] or []), params["sealed"])
    if params["state"] == "rendered":
        return _render(documents, params, context)
    with connect(params, context.clock) as client:
        group = ApplySet(params["set"], params["namespace"] or client.access.namespace)
        engine = Engine(client, group, context, force=params["force"], scale_in=params["scale_in"], diff=context.diff)
        if params["state"] == "compared":
            return compare(Engine(client, group, replace(context, check=True), force=True, scale_in=params["scale_in"]), documents)
        if params["state"] == "absent":
            return engine.absent(documents, params["wait_timeout"], keep_volumes=params["keep_volumes"])
        result = engine.present(documents, prune=params["prune"])
        if params["wait"] and not context.check:
            items = [change.after for change in engine.changes if change.after]
            selector = f"{PART_OF} in ({group.id})"
            try:
                wait(client, items, selector, timeout=params["wait_timeout"], context=context, component=group.name)
            except PlatformError as error:
                raise PlatformError(error.message, **{**result, **error.details}) from error
        return result


def compare(engine: Engine, documents: list[Document]) -> Result:
    """What the cluster has otherwise than the set wants it, found by the dry run of an apply that takes every field over."""
    refused: list[str] = []
    try:
        engine.present(documents, prune=True)
    except PlatformError as error:
        if "failures" not in error.details:
            raise
        refused = error.details["failures"]
    redactor = Redactor(engine.secrets)
    found = [
        drift.described(change.action, change.described(), change.before, change.after, engine.group.manager, redactor)
        for change in engine.changes
    ]
    objects = [{key: value for key, value in item.items() if key != "action"} for item in found if item]
    found_drift: Json = {"compared": len(documents), "objects": objects, "refused": refused}
    old = [document for document in documents if (document["apiVersion"], document["kind"]) in deprecations.TABLE]
    if old:
        found_drift["deprecated"] = [{"apiVersion": it["apiVersion"], "kind": it["kind"], "metadata": key_of(it)._asdict()} for it in old]
    return {"changed": False, "drift": found_drift}


def seal(documents: list[Document]) -> tuple[list[Document], str]:
    """The documents without the values of Secrets, and these by themselves in one opaque string.

    A module's arguments are logged on its host and shown with -vvv. One opaque string can be left out there, while marking every
    single value as secret would blot out every text that happens to hold the same word.
    """
    fields = ("data", "stringData")
    apart = {number: {field: it[field] for field in fields if field in it} for number, it in enumerate(documents) if masks.is_secret(it)}
    bare = [{key: value for key, value in it.items() if not (masks.is_secret(it) and key in fields)} for it in documents]
    return bare, base64.b64encode(json.dumps(apart).encode()).decode()


def unseal(documents: list[Document], sealed: str | None) -> list[Document]:
    """Undoes ``seal``."""
    apart = json.loads(base64.b64decode(sealed)) if sealed else {}
    return [{**document, **apart.get(str(number), {})} for number, document in enumerate(documents)]


# ---- rendered -----------------------------------------------------------------------------------------------------------------


def _render(documents: list[Document], params: Params, context: Context) -> Result:
    dest = Path(params["dest"])
    if dest.is_dir() or params["dest"].endswith("/"):
        dest /= f"{params['set']}.yaml"
    scopes = bundle_scopes(documents)
    namespace = "".join(params["namespace"] or "default")  # plain: YAML cannot represent the texts Ansible has tagged with their origin
    bundle.complete(documents, namespace, lambda it: scopes.get(scope_of(it), it["kind"] not in CLUSTER_WIDE))
    bundle.unique(documents)
    text = bundle.dump(documents)
    try:
        old = dest.read_text(encoding="utf-8") if dest.exists() else ""
        changed = old != text or not dest.exists()
        if changed and not context.check:
            dest.parent.mkdir(parents=True, exist_ok=True)
            mode = 0o600 if any(masks.is_secret(document) for document in documents) else 0o644
            with open(os.open(dest, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
                os.fchmod(file.fileno(), mode)
                file.write(text)
    except OSError as error:
        raise PlatformError(f"The bundle cannot be written to {dest}: {error.strerror}. Choose another dest.") from error
    action = "created" if not old else "configured" if changed else "unchanged"
    objects = [Change(key_of(document), document["apiVersion"], action).described() for document in documents]
    return {"changed": changed, "objects": objects, "dest": str(dest)}


def scope_of(document: Document) -> tuple[str, str]:
    return bundle.group_of(document["apiVersion"]), document["kind"]


def bundle_scopes(documents: Iterable[Document]) -> dict[tuple[str, str], bool]:
    """Whether the kinds that the bundle's own CustomResourceDefinitions add are namespaced."""
    return {
        added: (document.get("spec") or {}).get("scope") == "Namespaced"
        for document in documents
        if document["kind"] == "CustomResourceDefinition" and (added := bundle.defines(document))
    }


# ---- present ------------------------------------------------------------------------------------------------------------------


class Engine:
    """One run of one set against one API server. Without ``adopt`` an object that is there and was made by somebody else is an error."""

    def __init__(
        self,
        client: Client,
        group: ApplySet,
        context: Context,
        *,
        force: bool = False,
        scale_in: bool = True,
        diff: bool = False,
        adopt: bool = True,
    ) -> None:
        self.client = client
        self.group = group
        self.context = context
        self.force = force
        self.scale_in = scale_in
        self.diff = diff
        self.adopt = adopt
        self.dry_run = "All" if context.check else None
        self.changes: list[Change] = []
        self.secrets: set[str] = set()
        self._before: dict[Key, Json] = {}
        self._scopes: dict[tuple[str, str], bool] = {}
        self._new_groups: set[str] = set()
        self._applied: dict[Key, Change] = {}
        self._read: dict[Key, Json | None] = {}
        self._reading = threading.Lock()
        self._freed: set[Key] = set()

    def present(self, documents: list[Document], prune: bool) -> Result:
        self.secrets = masks.secret_values(documents)
        self._scopes = bundle_scopes(documents)
        self._new_groups = {added[0] for document in documents if (added := bundle.defines(document))}
        bundle.complete(documents, self.group.namespace, self._namespaced)
        bundle.unique(documents)
        keys = [key_of(document) for document in documents]
        for document in documents:
            document["metadata"]["labels"] = {**(document["metadata"].get("labels") or {}), PART_OF: self.group.id}
        parent = self._parent()
        recorded = self.group.contents(parent)
        wanted = Contents(frozenset((key.group, key.kind) for key in keys), frozenset(key.namespace for key in keys if key.namespace))
        everything = recorded | wanted | Contents(frozenset(), frozenset({self.group.namespace}))
        self._before = self._list(everything, {scope_of(document): document["apiVersion"] for document in documents})

        freed = self._free(keys) if prune else []
        changed = self._apply_all(documents, keys, everything if parent is None or not _holds(recorded, everything) else None)
        left = [key for key in self._before if key not in set(keys)]
        self.changes += freed
        if prune:
            self.changes += self._prune(left)
            kept = [change.key for change in self.changes if change.action == "kept"]
            now = wanted | Contents(
                frozenset((key.group, key.kind) for key in kept), frozenset(key.namespace for key in kept if key.namespace)
            )
            if _exact(now, self.group.namespace) != _exact(everything, self.group.namespace):
                changed |= self._write_parent(now)
        return self._result(changed)

    def _namespaced(self, document: Document) -> bool:
        """Scope of a kind: by the server, else by the bundle's own definitions; a kind nobody knows is taken as it stands."""
        try:
            return self.client.resource(document["apiVersion"], document["kind"]).namespaced
        except UnknownKind:
            if scope_of(document) in self._scopes:
                return self._scopes[scope_of(document)]
            if self.context.check or bundle.group_of(document["apiVersion"]) in self._new_groups:
                return bool(document["metadata"].get("namespace"))
            raise

    def _parent(self) -> Json | None:
        resource = self.client.resource("v1", "ConfigMap")
        return self.client.find(resource.path(self.group.namespace, self.group.parent_name))

    def _list(self, contents: Contents, versions: dict[tuple[str, str], str]) -> dict[Key, Json]:
        """All members of the set as they are, one request for each kind, side by side."""
        resources = []
        for resource in served(self.client, contents):
            version = versions.get((resource.group, resource.kind), resource.api_version)
            resources.append(self.client.resource(version, resource.kind))
        results = graph.run([set() for _unused in resources], lambda index: self._list_kind(resources[index], contents), WORKERS)
        found: dict[Key, Json] = {}
        for items in results:
            if isinstance(items, Exception):
                raise items
            found.update({key_of(item): item for item in items})
        return found

    def _list_kind(self, resource: Resource, contents: Contents) -> list[Json]:
        """One namespace by itself, several in one request to all of them; one by one when that is not allowed."""
        places: list[str | None] = [*sorted(contents.namespaces)] if resource.namespaced else [None]
        items: list[Json] = []
        if len(places) > 1:
            try:
                items = self.client.list(resource, None, labelSelector=self.group.selector)["items"]
                return [named(item, resource) for item in items]
            except ApiError as error:
                if error.status != 403:
                    raise
        for place in places:
            items += self.client.list(resource, place, labelSelector=self.group.selector)["items"]
        return [named(item, resource) for item in items]

    def _apply_all(self, documents: list[Document], keys: list[Key], parent: Contents | None) -> bool:
        """Applies everything; ``parent`` is what the set's parent must say before its first new member is there, None when it does."""
        needs = bundle.prerequisites(documents)
        home = (
            keys.index(Key("", "Namespace", "", self.group.namespace)) if Key("", "Namespace", "", self.group.namespace) in keys else None
        )
        parent_changed = False
        if parent is not None:
            number = len(documents)  # the parent comes right after its namespace and before all else
            needs = [before if index == home else before | {number} for index, before in enumerate(needs)]
            needs.append({home} if home is not None else set())

        def work(index: int) -> Change | bool:
            return self._write_parent(t.cast(Contents, parent)) if index == len(documents) else self._apply(documents[index], keys[index])

        outcomes = graph.run(needs, work, WORKERS)
        if parent is not None:
            last = outcomes.pop()
            if isinstance(last, PlatformError):
                raise last
            parent_changed = last is True
        self.changes = [outcome for outcome in outcomes if isinstance(outcome, Change)]
        self._raise_failures(keys, outcomes)
        return parent_changed

    def _raise_failures(self, keys: list[Key], outcomes: list[t.Any]) -> None:
        failures, blocked = [], 0
        for key, outcome in zip(keys, outcomes, strict=True):
            if isinstance(outcome, graph.Blocked):
                blocked += 1
            elif isinstance(outcome, PlatformError):
                failures.append(masks.scrub(explain(key, outcome), self.secrets))
            elif isinstance(outcome, Exception):
                raise outcome
        if failures:
            waiting = f" {blocked} objects that need them were not sent." if blocked else ""
            raise PlatformError(
                f"{len(failures)} of {len(keys)} objects of the set {self.group.name} could not be applied: {' '.join(failures)}{waiting}",
                **{**self._result(False), "failures": failures},
            )

    def _apply(self, document: Document, key: Key) -> Change:
        before = self._before.get(key)
        try:
            resource = self._resource(document)
        except UnknownKind:
            if self.context.check:  # its definition would have been installed by now
                return self._note(Change(key, document["apiVersion"], "created", None, document))
            raise
        path = resource.path(key.namespace, key.name)
        guarded = key.kind == "StatefulSet" and not self.scale_in
        if before is None and (self.diff or self.context.check or guarded or not self.adopt):
            before = self.client.find(path)
            before = named(before, resource) if before else None
            if before is not None and not self.adopt and not applied_by(before, self.group.manager):
                raise PlatformError(foreign(key, before))
        if guarded and before is not None:
            document = not_smaller(document, before)
        if key.kind in bundle.WEBHOOKS and before is not None:
            document = closed_by_controller(document, before, self.group.manager)
        if before is not None:
            document = yielded(document, before)
        if rollout.wanted(document):
            document = rollout.fill(document, lambda kind, name: self._live(kind, key.namespace, name))
        try:
            if before is not None and not would_change(document, before, self.group.manager):
                status, after, warnings = 200, before, list[str]()
            else:
                status, after, warnings = self._patch(path, document)
        except ApiError as error:
            predicted = self._predicted(error, document, key, before)
            if predicted is None:
                raise
            return self._note(predicted)
        after = named(after, resource)
        if status == 201:
            action = "created"
        elif before is None:  # it was there without the set's label, which it has now
            action = "configured"
        else:
            moved = self.context.check or version(before) != version(after)
            old, new = (significant(item, document, self.group.manager) for item in (before, after))
            action = "configured" if moved and old != new else "unchanged"
        if key.kind in GATES and not self.context.check:
            after = self._established(resource, key, after)
        return self._note(Change(key, document["apiVersion"], action, before, after, warnings, document))

    def _note(self, change: Change) -> Change:
        self._applied[change.key] = change
        return change

    def _patch(self, path: str, document: Document) -> tuple[int, Json, list[str]]:
        """Sends it; a Route whose certificate is on its way is given time."""
        # In check mode an object that would be made anew is still its former owner's.
        force = self.force or key_of(document) in self._freed
        query = {"fieldManager": self.group.manager, "force": force or None, "fieldValidation": "Strict", "dryRun": self.dry_run}
        deadline = self.context.clock.now() + UNREADABLE_TIMEOUT
        while True:
            try:
                status, headers, after = self.client.request("PATCH", path, document, query=query, content_type=APPLY)
                return status, after, [text for value in headers.get_all("Warning") or [] if (text := warning(value))]
            except ApiError as error:
                if self.context.check or not UNREADABLE.search(error.server_message) or self.context.clock.now() >= deadline:
                    raise
                self.context.clock.sleep(0.25)

    def _resource(self, document: Document) -> Resource:
        """Where the kind is served; a kind that the bundle itself adds is given time to appear after its definition is accepted."""
        deadline = self.context.clock.now() + ESTABLISH_TIMEOUT
        while True:
            try:
                return self.client.resource(document["apiVersion"], document["kind"])
            except UnknownKind:
                known = bundle.group_of(document["apiVersion"]) in self._new_groups
                if self.context.check or not known or self.context.clock.now() >= deadline:
                    raise
                self.context.clock.sleep(0.1)

    def _live(self, kind: str, namespace: str, name: str) -> Json | None:
        """The ConfigMap or Secret a pod template refers to: as this run left it, else as the server has it."""
        key = Key("", kind, namespace, name)
        change = self._applied.get(key)
        if change is None:
            with self._reading:  # a hundred workloads may refer to one, and are applied side by side
                if key not in self._read:
                    self._read[key] = self.client.find(self.client.resource("v1", kind).path(namespace, name))
                return self._read[key]
        after = change.after
        if after is not None and change.changed and self.context.check:  # the version it will have is not known yet
            return {**after, "metadata": {**after["metadata"], "resourceVersion": "will change"}}
        return after

    def _predicted(self, error: ApiError, document: Document, key: Key, before: Json | None) -> Change | None:
        """What check mode says of an object whose namespace, definition or certificate is not there yet; None when the error is a real one."""
        if not self.context.check:
            return None
        if error.status == 404 and (error.body.get("details") or {}).get("kind") == "namespaces":
            self._check_elsewhere(document, key)
            return Change(key, document["apiVersion"], "created", None, document)
        if UNREADABLE.search(error.server_message) and any(it.changed and it.key.kind in bundle.READERS for it in self._applied.values()):
            return Change(key, document["apiVersion"], "configured" if before else "created", before, document)
        definer = next(
            (change for it, change in self._applied.items() if it.kind == "CustomResourceDefinition" and _adds(change, key)), None
        )
        if definer is not None and definer.changed and error.status in (400, 404, 422):
            return Change(key, document["apiVersion"], "configured" if before else "created", before, document)
        return None

    def _check_elsewhere(self, document: Document, key: Key) -> None:
        """The server's own validation for an object whose namespace is not there: a dry run under another name in ``default``.

        Only findings about the object count; that the stand-in namespace has other rights, quotas or policies does not.
        """
        name = f"{key.name[:40].rstrip('-.')}-dry-run"
        stand_in = {**document, "metadata": {**document["metadata"], "namespace": "default", "name": name}}
        resource = self._resource(document)
        try:
            self._patch(resource.path("default", name), stand_in)
        except ApiError as error:
            if error.status in (400, 422) or TYPED.search(error.server_message):
                raise

    def _established(self, resource: Resource, key: Key, item: Json) -> Json:
        """Waits until a definition serves its kinds, by a watch on this one object."""
        deadline = self.context.clock.now() + ESTABLISH_TIMEOUT
        verdict = readiness(item)
        if verdict.state is State.READY:
            return item
        with Streams(self.client, deadline) as streams:
            streams.follow(Source(resource, None, None, f"metadata.name={key.name}"))
            while verdict.state is State.PENDING:
                left = deadline - self.context.clock.now()
                change = streams.next(min(1.0, left))
                if change and change.items and change.event != DELETED:
                    item = change.items[-1]
                    verdict = readiness(item)
                if left <= 0:
                    break
        if verdict.state is not State.READY:
            raise PlatformError(f"{key} does not serve its kinds: {verdict.reason}. See `kubectl describe {resource.plural} {key.name}`.")
        self.client.discovery.forget()
        return item

    def _write_parent(self, contents: Contents) -> bool:
        """Whether the parent was changed by it."""
        if self.context.check:
            return False
        resource = self.client.resource("v1", "ConfigMap")
        path = resource.path(self.group.namespace, self.group.parent_name)
        query = {"fieldManager": self.group.manager, "force": True}
        try:
            self.client.request("PATCH", path, self.group.parent(contents), query=query, content_type=APPLY)
        except ApiError as error:
            if error.status == 404:
                raise PlatformError(
                    f"The namespace {self.group.namespace!r}, home of the set {self.group.name}, does not exist on {self.client.access}. "
                    f"Put it into the bundle, or run `kubectl create namespace {self.group.namespace}`."
                ) from error
            raise
        return True

    # ---- prune and absent -----------------------------------------------------------------------------------------------------

    def _free(self, keys: list[Key]) -> list[Change]:
        """Prunes what the bundle no longer names and what owns something that it does name now, and waits until both are gone.

        A ScaledObject owns the autoscaler that KEDA makes of it, by the name that an autoscaler without KEDA has too. KEDA would set it back as long as the
        ScaledObject is there, and the server takes it away with its owner.
        """
        owned = owned_by_former(self._before, set(keys), self.group.manager)
        former = sorted({owner for owners in owned.values() for owner in owners})
        self._freed = set(owned)
        if not former:
            return []
        changes = self._delete(former, "pruned")
        if not self.context.check:
            self._until_gone([*former, *owned], self.context.clock.now() + FREED_TIMEOUT)
            for key in owned:
                del self._before[key]
        for key in former:
            del self._before[key]
        return changes

    def _prune(self, keys: list[Key]) -> list[Change]:
        """Deletes members that the bundle no longer names, if this set's manager applied them; the order is the reverse of creation."""
        mine = [key for key in keys if applied_by(self._before[key], self.group.manager)]
        doomed = [key for key in mine if (key.group, key.kind) not in KEPT and not self._before[key]["metadata"].get("deletionTimestamp")]
        kept = [Change(key, self._before[key]["apiVersion"], "kept", self._before[key]) for key in mine if (key.group, key.kind) in KEPT]
        for change in kept:
            change.warnings.append(
                f"{change.key} is no longer in the set {self.group.name} and was kept, because data goes with it. "
                f"When it shall go: `kubectl delete {change.key.kind.lower()} {change.key.name}"
                + (f" -n {change.key.namespace}`." if change.key.namespace else "`.")
            )
        return [*self._delete(doomed, "pruned"), *kept]

    def _delete(self, keys: list[Key], action: str) -> list[Change]:
        """Deletes, dependents first. ``deleted`` workloads go in the foreground: they are gone when their pods are."""
        items = [self._before[key] for key in keys]
        forward = bundle.prerequisites(items)
        backward: list[set[int]] = [set() for _unused in items]
        for index, before in enumerate(forward):
            for other in before:
                backward[other].add(index)

        def work(index: int) -> Change:
            item, key = items[index], keys[index]
            options: Json = {
                "apiVersion": "v1",
                "kind": "DeleteOptions",
                "propagationPolicy": "Foreground" if action == "deleted" and key.kind in bundle.WORKLOADS else "Background",
                "preconditions": {"uid": item["metadata"]["uid"]},
            }
            if self.dry_run:
                options["dryRun"] = [self.dry_run]
            path = self.client.resource(item["apiVersion"], key.kind).path(key.namespace, key.name)
            try:
                self.client.request("DELETE", path, options)
            except ApiError as error:
                if error.status not in (404, 409):  # gone, or another object of the same name
                    raise
            return Change(key, item["apiVersion"], action, item)

        outcomes = graph.run(backward, work, WORKERS)
        done = [outcome for outcome in outcomes if isinstance(outcome, Change)]
        failures = [
            masks.scrub(explain(key, it), self.secrets) for key, it in zip(keys, outcomes, strict=True) if isinstance(it, PlatformError)
        ]
        unexpected = [it for it in outcomes if isinstance(it, Exception) and not isinstance(it, PlatformError | graph.Blocked)]
        if unexpected:
            raise unexpected[0]
        if failures:
            self.changes += done
            raise PlatformError(
                f"{len(failures)} of {len(keys)} objects of the set {self.group.name} could not be deleted: {' '.join(failures)}",
                **{**self._result(False), "failures": failures},
            )
        return done

    def absent(self, documents: list[Document], timeout: float, keep_volumes: bool = False) -> Result:
        """Deletes every member this set applied, waits until they are gone, and then deletes the set's parent.

        The definition is not needed: the set knows its members. Given, it helps to find those of a set whose parent was lost.
        Kept volumes keep their namespace, and the set's parent with them, so that a later call still finds what is left.
        """
        parent = self._parent()
        contents = self.group.contents(parent)
        if documents:
            known = {scope_of(document) for document in documents}
            spaces = {document["metadata"].get("namespace") or self.group.namespace for document in documents}
            contents |= Contents(frozenset(known), frozenset(spaces))
        self._before = self._list(contents, {})
        self.secrets = masks.secret_values(self._before.values())
        mine = [key for key in self._before if applied_by(self._before[key], self.group.manager)]
        deadline = self.context.clock.now() + timeout
        kept = self._with_volumes(mine) if keep_volumes else []
        mine = [key for key in mine if key not in {change.key for change in kept}]
        late = [key for key in mine if (key.group, key.kind) in KEPT]
        self.changes = []
        for keys in (
            [key for key in mine if key not in late],
            [key for key in late if key.kind != "Namespace"],
            [key for key in late if key.kind == "Namespace"],
        ):
            self.changes += self._delete(keys, "deleted")
            if not self.context.check:
                self._until_gone(keys, deadline)
        self.changes += kept
        if kept:
            keys = [change.key for change in kept]
            left = Contents(frozenset((key.group, key.kind) for key in keys), frozenset(key.namespace for key in keys if key.namespace))
            return self._result(_exact(left, self.group.namespace) != _exact(contents, self.group.namespace) and self._write_parent(left))
        if parent is not None and not self.context.check:
            path = self.client.resource("v1", "ConfigMap").path(self.group.namespace, self.group.parent_name)
            try:
                self.client.request("DELETE", path)
            except ApiError as error:
                if error.status != 404:
                    raise
        return self._result(parent is not None)

    def _with_volumes(self, keys: list[Key]) -> list[Change]:
        """The claims among the members, and the namespaces in which anybody's claims are."""
        resource = self.client.resource("v1", "PersistentVolumeClaim")
        kept: list[Change] = []
        for key in keys:
            claims: list[str] = []
            if (key.group, key.kind) == ("", "Namespace"):
                claims = [
                    it["metadata"]["name"]
                    for it in self.client.list(resource, key.name)["items"]
                    if not it["metadata"].get("deletionTimestamp")
                ]
                why = f"Namespace {key.name} was kept, because there are volumes in it: {', '.join(sorted(claims))}"
            elif (key.group, key.kind) == ("", "PersistentVolumeClaim"):
                claims, why = [key.name], f"{key} was kept with its data"
            if claims:
                where = key.namespace or key.name
                remedy = f"When the data shall go: `kubectl -n {where} delete pvc {' '.join(sorted(claims))}`, then run this again."
                kept.append(Change(key, self._before[key]["apiVersion"], "kept", self._before[key], None, [f"{why}. {remedy}"]))
        return kept

    def _until_gone(self, keys: list[Key], deadline: float) -> None:
        """Waits by watch; raises PlatformError with the finalizers that hold what is still there."""
        left = {key: self._before[key] for key in keys}
        if not left:
            return
        with Streams(self.client, deadline) as streams:
            for key in keys:
                resource = self.client.resource(self._before[key]["apiVersion"], key.kind)
                streams.follow(Source(resource, key.namespace or None, self.group.selector))
            while left and self.context.clock.now() < deadline:
                first = next(iter(left))
                self.context.progress.report(self.group.name, f"{len(left)} objects are being deleted, {first} among them")
                change = streams.next(min(1.0, deadline - self.context.clock.now()))
                if change is None:
                    continue
                about = {key_of(item) for item in change.items}
                resource = change.source.resource
                for key in list(left):
                    same = (key.group, key.kind, key.namespace) == (resource.group, resource.kind, change.source.namespace or "")
                    if same and ((change.event == LISTED and key not in about) or (change.event == DELETED and key in about)):
                        del left[key]
                left.update({key_of(item): item for item in change.items if change.event != DELETED and key_of(item) in left})
        if left:
            stuck = [f"{key}{held(item)}" for key, item in left.items()]
            stuck += [it for key in left if key.kind == "Namespace" for it in leftovers.ending(self.client, key.name)]
            raise PlatformError(
                f"Deleted but not gone in time: {'; '.join(stuck)}. Is the controller that removes these finalizers still running? "
                "Nothing is removed by force: what a finalizer protects would be lost.",
                **self._result(True),
            )
        self.context.progress.report(self.group.name, "deleted", done=True)

    # ---- result ---------------------------------------------------------------------------------------------------------------

    def _result(self, parent_changed: bool) -> Result:
        result: Result = {
            "changed": parent_changed or any(change.changed for change in self.changes),
            "objects": [change.described() for change in self.changes],
        }
        warnings = sorted({f"{change.key}: {text}" for change in self.changes for text in change.warnings})
        if warnings:
            result["warnings"] = masks.scrub(warnings, self.secrets)
        if self.diff:
            result["diff"] = [self._difference(change) for change in self.changes if change.changed]
        return result

    def _difference(self, change: Change) -> Json:
        gone = change.action in ("pruned", "deleted")
        before, after = masks.diff(
            change.before, None if gone else change.after, self.secrets | masks.secret_values([change.before, change.after])
        )
        return {
            "before_header": str(change.key),
            "after_header": f"{change.key} ({change.action})",
            "before": bundle.dump([before]) if before else "",
            "after": bundle.dump([after]) if after else "",
        }


def foreign(key: Key, there: Json) -> str:
    """Why an object that is there cannot be taken over, by the server's own book of who wrote it."""
    writers = sorted({str(entry.get("manager")) for entry in there["metadata"].get("managedFields") or [] if not entry.get("subresource")})
    by = f" (by {', '.join(writers)})" if writers else ""
    return f"{key}: it is there already, made by somebody else{by}. Choose another name, or delete it there where it comes from."


def _exact(contents: Contents, home: str) -> Contents:
    """What the parent's annotations say: its own namespace is not among them."""
    return Contents(contents.kinds, contents.namespaces - {home})


def _holds(recorded: Contents, wanted: Contents) -> bool:
    return wanted.kinds <= recorded.kinds and wanted.namespaces <= recorded.namespaces


def _adds(change: Change, key: Key) -> bool:
    return change.after is not None and bundle.defines(change.after) == (key.group, key.kind)


def not_smaller(document: Document, there: Json) -> Document:
    """The document with as many replicas as the object has, where it asks for fewer: what the pods hold must be taken off them first."""
    spec, now = document.get("spec") or {}, (there.get("spec") or {}).get("replicas") or 0
    return document if spec.get("replicas", now) >= now else {**document, "spec": {**spec, "replicas": now}}


def owned_by_former(before: Mapping[Key, Json], wanted: set[Key], manager: str) -> dict[Key, list[Key]]:
    """Wanted objects that members own which are no longer wanted and go for that, with these owners."""
    former = {
        item["metadata"].get("uid"): key
        for key, item in before.items()
        if key not in wanted and (key.group, key.kind) not in KEPT and applied_by(item, manager)
    }
    found = {
        key: [former[it["uid"]] for it in before[key]["metadata"].get("ownerReferences") or [] if it["uid"] in former]
        for key in wanted
        if key in before
    }
    return {key: owners for key, owners in found.items() if owners}


def yielded(document: Document, there: Json) -> Document:
    """The document without a field that it yields, while the manager it yields it to owns it: ``progressive.platform/yields: <manager>:<path>``."""
    manager, _colon, path = str((document["metadata"].get("annotations") or {}).get(YIELDS) or "").partition(":")
    steps = path.split(".")
    for entry in there["metadata"].get("managedFields") or []:
        if path and entry.get("manager") == manager and entry.get("operation") == "Apply":
            owned = entry.get("fieldsV1") or {}
            for step in steps:
                owned = owned.get(f"f:{step}")
                if owned is None:
                    break
            else:
                return _without(document, steps)
    return document


def _without(document: Document, steps: list[str]) -> Document:
    below = document.get(steps[0])
    if len(steps) > 1 and isinstance(below, dict):
        left = _without(below, steps[1:])
        return {**document, steps[0]: left} if left else {key: value for key, value in document.items() if key != steps[0]}
    return {key: value for key, value in document.items() if key != steps[0]}


def closed_by_controller(document: Document, there: Json, manager: str) -> Document:
    """The document without a failurePolicy that is no longer ours.

    A webhook whose server starts together with it is sent with Ignore, and its controller sets Fail once it is served. Sending Ignore again
    would open what is closed, so the field stays with the one that took it over.
    """
    mine: set[str] = set()
    for entry in there["metadata"].get("managedFields") or []:
        if entry.get("manager") == manager and entry.get("operation") == "Apply":
            hooks = (entry.get("fieldsV1") or {}).get("f:webhooks") or {}
            mine |= {json.loads(key[2:])["name"] for key, fields in hooks.items() if key.startswith("k:") and "f:failurePolicy" in fields}
    closed = {hook["name"] for hook in there.get("webhooks") or [] if hook.get("failurePolicy") == "Fail"} - mine

    def left(hook: Json) -> Json:
        taken = hook.get("failurePolicy") == "Ignore" and hook.get("name") in closed
        return {field: value for field, value in hook.items() if field != "failurePolicy"} if taken else hook

    return {**document, "webhooks": [left(hook) for hook in document.get("webhooks") or []]}


def version(item: Json) -> str:
    return str(item["metadata"].get("resourceVersion"))


def significant(item: Json, document: Json, manager: str) -> tuple[t.Any, list[tuple[str, Json]]]:
    """What applying the document can change of an object: the fields it names, and which fields the manager owns since when.

    Controllers write into the same objects meanwhile, so a resourceVersion that moved does not prove that we moved it. The
    time of our own entry does: the server renews it only with a write (also with one that changes nothing a person would
    see, such as an empty map that it does not keep).
    """
    owned = [
        (str(entry.get("time")), entry.get("fieldsV1") or {})
        for entry in item["metadata"].get("managedFields") or []
        if entry.get("manager") == manager and entry.get("operation") == "Apply"
    ]
    return project(item, document), owned


def project(item: t.Any, document: t.Any) -> t.Any:
    """The part of the item that the document names; lists whole, because the server merges them by keys of its own."""
    if isinstance(item, dict) and isinstance(document, dict):
        return {key: project(item.get(key), value) for key, value in document.items()}
    return item


def warning(header: str) -> str:
    """The text of a Warning header as the API server writes it: ``299 - "text"``, with quotes and backslashes escaped."""
    match = re.fullmatch(r'299 \S+ "((?:[^"\\]|\\.)*)".*', header)
    return re.sub(r"\\(.)", r"\1", match.group(1)) if match else ""


def explain(key: Key, error: PlatformError) -> str:
    """One failed object in words: what the server said, and what to do."""
    if not isinstance(error, ApiError) or not error.status:
        return f"{key}: {error.message}"
    causes = (error.body.get("details") or {}).get("causes") or []
    conflicts = [cause for cause in causes if cause.get("reason") == "FieldManagerConflict"]
    if conflicts:
        owned = "; ".join(f"{cause.get('field', '?')} is owned by {owner(cause.get('message', ''))}" for cause in conflicts)
        return f"{key}: {owned}. Take the fields over with force: true, or leave them out of the definition."
    said = error.server_message.rstrip(".")
    if error.status == 401:
        return f"{key}: {error.message}"
    if error.status == 404 and (error.body.get("details") or {}).get("kind") == "namespaces":
        remedy = f"Put it into the bundle, or run `kubectl create namespace {key.namespace}`."
        return f"{key}: the namespace {key.namespace!r} does not exist. {remedy}"
    if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        return (
            f"{key}: its namespace is being deleted. Wait for `kubectl wait --for=delete namespace/{key.namespace}`, then run this again."
        )
    typed = TYPED.search(said)
    if typed:
        return f"{key}: {' '.join(typed.group(1).split())}. Compare with `kubectl explain {key.kind.lower()} --recursive`."
    hint = ""
    if error.status == 403:
        hint = f" Ask what is allowed with `kubectl auth can-i --list{f' -n {key.namespace}' if key.namespace else ''}`."
    elif error.status == 422 and ("immutable" in said or "Forbidden: updates to" in said):
        where = f" -n {key.namespace}" if key.namespace else ""
        hint = f" Such a field is set once: to change it, delete the object first (`kubectl delete {key.kind.lower()} {key.name}{where}`)."
    return f"{key}: {error.status} {error.reason}: {said}.{hint}"


def owner(message: str) -> str:
    """The manager in the server's conflict text, which reads ``conflict with "name" using v1`` or ``... with subresource "x"``."""
    match = re.search(r'conflict with ("[^"]*"(?: with subresource "[^"]*")?)', message)
    return match.group(1) if match else f"another manager ({message})"
