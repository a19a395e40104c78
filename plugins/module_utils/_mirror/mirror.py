# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module ``mirror`` does: from a bill to a registry and a folder of files, to one archive, or from an archive (private: may change without notice).

What is there with the right digest is not copied again, so a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
import typing as t
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.error import HTTPError

from ansible_collections.progressive.platform.plugins.module_utils._local.shell import default_cache
from ansible_collections.progressive.platform.plugins.module_utils._mirror import archive as archives
from ansible_collections.progressive.platform.plugins.module_utils._mirror import plan, sources
from ansible_collections.progressive.platform.plugins.module_utils._mirror.plan import File, Image
from ansible_collections.progressive.platform.plugins.module_utils._mirror.skopeo import Skopeo, Trouble, patiently
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

Json = dict[str, t.Any]
T = t.TypeVar("T")

REGISTRIES: dict[str, t.Any] = {
    "source": {"type": "str", "default": ""},
    "sources": {"type": "dict", "default": {}},
    "clusters": {"type": "list", "elements": "str", "default": []},
    "authfile": {"type": "path"},
    "source_tls_verify": {"type": "bool", "default": True},
    "attempts": {"type": "int", "default": 5},
}
ARGUMENTS: dict[str, t.Any] = {
    "state": {"type": "str", "choices": ["mirrored", "exported", "imported"], "default": "mirrored"},
    "bill": {"type": "path"},
    "registry": {"type": "str", "default": ""},
    "files": {"type": "path"},
    "archive": {"type": "path"},
    "tls_verify": {"type": "bool", "default": True},
    "cache": {"type": "path"},
    "copy_timeout": {"type": "float", "default": 1800.0},
    **REGISTRIES,
}
CONSTRAINTS: dict[str, t.Any] = {
    "required_if": [
        ("state", "mirrored", ("bill",)),
        ("state", "mirrored", ("registry", "files"), True),
        ("state", "exported", ("bill", "archive")),
        ("state", "imported", ("archive",)),
        ("state", "imported", ("registry", "files"), True),
    ]
}
WORKERS = 4  # copies side by side


def run(params: Params, context: Context) -> Result:
    """Result: changed, images and files (what was copied), present (how many were there), local (what no mirror can get), archive, msg."""
    if params["state"] != "exported" and not params["registry"] and not params["files"]:
        raise PlatformError(
            "Neither registry nor files is given; there is nowhere to copy to. Set mirror_registry (platform_registry) or mirror_files."
        )
    job = Job(params, context)
    return {"mirrored": job.mirror, "exported": job.export, "imported": job.bring_in}[params["state"]]()


def read_bill(path: Path) -> Json:
    """The list that playbook bill writes."""
    try:
        bill = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(bill, dict) or not isinstance(bill.get("images"), list):
            raise ValueError("it has no list of images")
    except FileNotFoundError as error:
        raise PlatformError(f"{path} is wanted, the list of what is needed, and not there. Run playbooks/bill.yml (make bill).") from error
    except (OSError, ValueError) as error:
        raise PlatformError(f"{path} is wanted as the list of what is needed: {error}. Run playbooks/bill.yml (make bill).") from error
    return bill


def make_skopeo(params: Params, context: Context) -> Skopeo:
    authfile = params["authfile"] or ""
    if authfile and not Path(authfile).is_file():
        raise PlatformError(f"The credentials' file {authfile} is not there. Make it: skopeo login --authfile {authfile} <registry>.")
    if params["attempts"] < 1:
        raise PlatformError(f"attempts is {params['attempts']}; at least 1 is wanted.")
    return Skopeo(
        authfile=authfile,
        source_tls_verify=params["source_tls_verify"],
        tls_verify=params.get("tls_verify", True),
        attempts=params["attempts"],
        timeout=params.get("copy_timeout", 1800.0),
        clock=context.clock,
        report=lambda line: context.progress.report("mirror", line),
    )


class Job:
    """One call."""

    def __init__(self, params: Params, context: Context) -> None:
        self.params = params
        self.context = context
        self.registry = params["registry"].rstrip("/")
        self.folder = Path(params["files"]) if params["files"] else None
        self.store = archives.Store(Path(params["cache"] or default_cache() / "mirror"))
        self.skopeo = make_skopeo(params, context)

    # -- the three ways ------------------------------------------------------------------------------------------------

    def mirror(self) -> Result:
        images, files, local = self._wanted()
        self._installed(images)
        missing, lacking = self._missing(images if self.registry else [], files if self.folder else [])
        if not self.context.check:
            self._all(
                [
                    *((image.called, lambda image=image: self._push(image, f"docker://{image.at_source()}")) for image in missing),
                    *((file.source.name, lambda file=file: self._fetch(file, t.cast("Path", self.folder))) for file in lacking),
                ]
            )
        return self._result(images if self.registry else [], files if self.folder else [], missing, lacking, local)

    def export(self) -> Result:
        images, files, local = self._wanted()
        archive = Path(self.params["archive"])
        try:
            former = archives.read(archive) if archive.exists() else {}
        except PlatformError as error:
            former = {}  # it is made anew
            self.context.progress.report("mirror", error.message)
        if former and archives.wanted(images, files) == {key: former[key] for key in ("images", "files")}:
            return self._result(images, files, [], [], local, archive)
        if self.context.check:
            kept = {it["digest"] for it in former.get("images", [])} | {it["sha256"] for it in former.get("files", [])}
            missing = [image for image in images if image.digest not in kept]
            return self._result(
                images, files, missing, [file for file in files if file.source.sha256 not in kept], local, archive, changed=True
            )
        self._installed(images)
        with self._alone():
            if former:
                with contextlib.suppress(PlatformError):  # what it has need not be fetched again; a part that is damaged is
                    archives.unpack(archive, former, self.store)
            missing = [image for image in images if not self.store.has(image.digest)]
            lacking = [file for file in files if not self.store.blob(file.source.sha256).is_file()]
            self._all(
                [
                    *((image.called, lambda image=image: self._pull(image)) for image in missing),
                    *((file.source.name, lambda file=file: self._keep(file)) for file in lacking),
                ]
            )
            archives.write(archives.contents(images, files, self.store), self.store, archive)
            shutil.rmtree(self.store.folder / "blobs", ignore_errors=True)
        return self._result(images, files, missing, lacking, local, archive, changed=True)

    def bring_in(self) -> Result:
        archive = Path(self.params["archive"])
        listed = archives.read(archive)
        images, files = archives.held(listed)
        if self.params["bill"]:
            wanted, files_wanted, _local = self._wanted()
            plan.refuse_other_bill(images, [file.source.sha256 for file in files], wanted, files_wanted)
        images, files = images if self.registry else [], files if self.folder else []
        self._installed(images)
        missing, lacking = self._missing(images, files)
        if (missing or lacking) and not self.context.check:
            with self._alone():
                archives.unpack(archive, listed, self.store)  # all of it is sound before the first push
                self._all(
                    [
                        *((image.called, lambda image=image: self._push_stored(image)) for image in missing),
                        *((file.source.name, lambda file=file: self._place(file)) for file in lacking),
                    ]
                )
                shutil.rmtree(self.store.folder / "blobs", ignore_errors=True)
        return self._result(images, files, missing, lacking, [], archive)

    # -- what is there -------------------------------------------------------------------------------------------------

    def _wanted(self) -> tuple[list[Image], list[File], list[str]]:
        bill, clusters = read_bill(Path(self.params["bill"])), self.params["clusters"]
        images, local = plan.images(bill, clusters, self.params["source"], self.params["sources"])
        return images, plan.files(bill, clusters), local

    def _installed(self, images: Iterable[Image]) -> None:
        if any(True for _image in images):
            self.skopeo.ready(self.context.check)

    def _missing(self, images: list[Image], files: list[File]) -> tuple[list[Image], list[File]]:
        """What the mirror does not have; PlatformError where it has something else."""
        with ThreadPoolExecutor(max_workers=WORKERS) as pool:
            digests = list(pool.map(lambda image: self.skopeo.digest(image.at(self.registry)), images))
        plan.refuse_other_digests(list(zip(images, digests, strict=True)), self.registry)
        wrong, lacking = [], []
        for file in files:
            target = t.cast("Path", self.folder) / file.place
            if not target.is_file():
                lacking.append(file)
            elif (seen := sources.sha256(target)) != file.source.sha256:
                wrong.append(f"{target} has the SHA-256 {seen}, and {file.source.sha256} is wanted")
        if wrong:
            raise PlatformError(
                f"The mirror holds other files: {'; '.join(wrong)}. Nothing was copied. Remove them, then run playbooks/mirror.yml again."
            )
        return [image for image, digest in zip(images, digests, strict=True) if not digest], lacking

    # -- copying -------------------------------------------------------------------------------------------------------

    def _push(self, image: Image, source: str) -> None:
        self.skopeo.copy(source, f"docker://{image.at(self.registry)}", image.digest)

    def _pull(self, image: Image) -> None:
        folder = self._incoming(image)
        self.skopeo.copy(f"docker://{image.at_source()}", f"dir:{folder}", image.digest)
        self.store.take(folder)
        if not self.store.has(image.digest):
            raise PlatformError(f"{image.at_source()} came without all of its parts. Ask the source's registry, then run again.")

    def _push_stored(self, image: Image) -> None:
        folder = self._incoming(image)
        self.store.lay_out(image.digest, folder)
        self._push(image, f"dir:{folder}")
        shutil.rmtree(folder)

    def _incoming(self, image: Image) -> Path:
        folder = self.store.folder / "incoming" / hashlib.sha256(image.origin.encode()).hexdigest()[:16]
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        return folder

    def _fetch(self, file: File, folder: Path) -> Path:
        """The file below ``folder``, by its checksum; what breaks off is tried again."""
        source = replace(file.source, members=())
        if source.path:
            with _readable(source.path) as content:
                _write(content, folder / file.place, source.sha256, source.name)
            return folder / file.place

        def fetch() -> Path:
            try:
                return sources.files(source, folder, self.context.clock, self.params["copy_timeout"])[0]
            except PlatformError as error:
                passing = isinstance(error.__cause__, OSError) and not (
                    isinstance(error.__cause__, HTTPError) and error.__cause__.code < 500
                )
                raise Trouble(error.message, final=not passing) from error

        return patiently(fetch, source.name, self.params["attempts"], self.context.clock, self.skopeo.report)

    def _keep(self, file: File) -> None:
        fetched = self._fetch(file, self.store.folder / "incoming")
        with _readable(str(fetched)) as content:
            self.store.add(content, file.source.sha256, str(fetched))
        shutil.rmtree(fetched.parent)

    def _place(self, file: File) -> None:
        with _readable(str(self.store.blob(file.source.sha256))) as content:
            _write(content, t.cast("Path", self.folder) / file.place, file.source.sha256, file.source.name)

    def _all(self, tasks: Iterable[tuple[str, Callable[[], t.Any]]]) -> None:
        """Do all of it, some side by side; what fails does not keep the rest from being copied, and all failures are told."""

        def do(task: tuple[str, Callable[[], t.Any]]) -> str:
            what, work = task
            started = self.context.clock.now()
            self.context.progress.report("mirror", what)
            try:
                work()
            except PlatformError as error:
                return f"{what}: {error.message}"
            except OSError as error:
                return f"{what}: {error.strerror} ({error.filename})."
            self.context.progress.report("mirror", f"{what}: {self.context.clock.now() - started:.0f} s", done=True)
            return ""

        with ThreadPoolExecutor(max_workers=WORKERS) as pool:
            outcomes = list(pool.map(do, tasks))
        if failed := [outcome for outcome in outcomes if outcome]:
            raise PlatformError(
                f"{len(failed)} of {len(outcomes)} were not copied; the next run goes on from here. {' | '.join(failed)}",
                changed=len(failed) < len(outcomes),
            )

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One run at a time in a cache."""
        self.store.folder.mkdir(parents=True, exist_ok=True)
        with open(self.store.folder / ".lock", "w", encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise PlatformError(
                    f"Another run uses {self.store.folder}. Wait for its end, or give this one a cache of its own."
                ) from None
            shutil.rmtree(self.store.folder / "incoming", ignore_errors=True)  # of a run that was killed
            yield

    def _result(
        self,
        images: list[Image],
        files: list[File],
        missing: list[Image],
        lacking: list[File],
        local: list[str],
        archive: Path | None = None,
        changed: bool | None = None,
    ) -> Result:
        where = (
            self.params["archive"]
            if self.params["state"] == "exported"
            else " and ".join(filter(None, (self.registry, str(self.folder or ""))))
        )
        copied = "would be copied" if self.context.check else "were copied"
        words = f"{where}: {len(missing)} of {len(images)} images and {len(lacking)} of {len(files)} files {copied}; the others were there."
        if local:
            words += f" On one machine only, so not in it: {', '.join(local)}."
        return {
            "changed": bool(missing or lacking) if changed is None else changed,
            "images": [image.origin if self.params["state"] == "exported" else image.at(self.registry) for image in missing],
            "files": [file.place for file in lacking],
            "present": len(images) + len(files) - len(missing) - len(lacking),
            "local": local,
            "archive": str(archive or ""),
            "msg": words,
        }


@contextlib.contextmanager
def _readable(path: str) -> Iterator[t.IO[bytes]]:
    try:
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError as error:
        raise PlatformError(
            f"{path} is wanted and not there. Build it, or take its path out of platform_sources; then run playbooks/bill.yml."
        ) from error


def _write(content: t.IO[bytes], target: Path, checksum: str, what: str) -> None:
    """A file below a mirror's folder."""
    wrong = f"{what}: its SHA-256 is {{seen}}, and the bill wants {checksum}. Run playbooks/bill.yml, then again."
    sources.keep(content, target, checksum, wrong)
