# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Building what is missing: root filesystems, wheels and images side by side as far as one does not need the other.

Whatever a step makes is complete when it is there (written beside its name and renamed, or committed by buildah), so an interrupted
run goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import threading
import typing as t
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._images.commands import Buildah, Docker, mmdebstrap
from ansible_collections.progressive.platform.plugins.module_utils._images.definition import Base, Image, digest
from ansible_collections.progressive.platform.plugins.module_utils._local import builds, packages
from ansible_collections.progressive.platform.plugins.module_utils._local.images import write_layer
from ansible_collections.progressive.platform.plugins.module_utils._local.shell import call, succeeds, write_atomic
from ansible_collections.progressive.platform.plugins.module_utils._local.steps import Step, execute
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError

KEEP = 3  # archives of an image that stay: this one and two to roll back to
LOCK_SECONDS = 1800.0


@dataclass(frozen=True)
class Job:
    """What one call builds and where its results go."""

    images: dict[str, Image]
    source: Path
    cache: Path
    builder: str
    platforms: tuple[str, ...]
    push: bool
    tls_verify: bool
    timeout: float
    look: Callable[[], Mapping[str, Image]]  # the images the sources describe at this moment

    def archive(self, image: Image) -> Path:
        return self.cache / image.file

    def rootfs(self, base: Base) -> Path:
        return self.cache / "bases" / base.reference.rsplit("/", 1)[-1].replace(":", "-") / "rootfs.tar"

    def wheels(self, image: Image) -> Path:
        """Keyed by the lock and by the base, whose Python decides which wheels fit."""
        return self.cache / "wheels" / digest([(self.source / image.wheels).read_text(encoding="utf-8"), image.bases[0].reference])

    def needs_wheels(self, image: Image) -> bool:
        """A base made here comes without a network; one from a registry lets pip ask its index."""
        return bool(image.wheels) and image.bases[0].made_here


class Builder:
    """Runs a job's steps."""

    def __init__(self, job: Job, context: Context) -> None:
        self.job = job
        self.context = context
        # Mounts and locks of a storage belong on a filesystem that a restart of the machine empties.
        runtime = Path("/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR") or job.cache)
        self.buildah = Buildah(job.cache / "storage", runtime / "progressive-platform-buildah", private=os.geteuid() == 0)
        self.docker = Docker()
        self._compiling = threading.Lock()

    def missing(self) -> list[Image]:
        """The images whose archive, or in a registry whose tag, is not there."""
        return [image for image in self.job.images.values() if not self.is_built(image)]

    def is_built(self, image: Image) -> bool:
        if not self.job.push:
            return self.job.archive(image).is_file()
        docker = self.job.builder == "docker"
        command = self.docker.published(image) if docker else self.buildah.published(image, self.job.tls_verify)
        return bool(shutil.which(command[0])) and succeeds(command, timeout=60)

    def build(self, images: list[Image]) -> None:
        """Build ``images``; PlatformError with the tool's own words when one fails."""
        self.job.cache.mkdir(parents=True, exist_ok=True)
        with self.alone():
            steps = self.plan([image for image in images if not self.is_built(image)])
            execute(steps, self.do, workers=4)
            self.forget()

    def plan(self, images: list[Image]) -> list[Step]:
        """Steps for what is missing. Images of one Containerfile follow each other: the second finds the first one's layers."""
        steps: dict[str, Step] = {}

        def add(verb: str, subject: str, *after: str) -> str:
            step = Step(verb, subject, after)
            steps.setdefault(step.name, step)
            return step.name

        install = [add("install", "tools")] if images and not all(map(shutil.which, self.tools())) else []
        last: dict[str, str] = {}
        for image in images:
            after = [*install, *filter(None, [last.get(image.containerfile)])]
            for base in image.bases:
                if base.made_here:
                    make = ("compile", base.name) if base.program else ("bootstrap", base.name, *install)
                    rootfs = [add(*make)] if not self.job.rootfs(base).is_file() else []
                    after.append(add("commit", base.name, *install, *rootfs))
            if self.job.needs_wheels(image) and not self.job.wheels(image).is_dir():
                after.append(add("download", image.wheels, f"commit {image.bases[0].name}"))
            last[image.containerfile] = add("build", image.name, *after)
        return list(steps.values())

    def do(self, step: Step) -> bool:
        bases = {base.name: base for image in self.job.images.values() for base in image.bases}
        actions: dict[str, t.Callable[[], None]] = {
            "install": self.install,
            "bootstrap": lambda: self.bootstrap(bases[step.subject]),
            "compile": lambda: self.compile(bases[step.subject]),
            "commit": lambda: self.commit(bases[step.subject]),
            "download": lambda: self.download(step.subject),
            "build": lambda: self.build_one(self.job.images[step.subject]),
        }
        started = self.context.clock.now()
        self.context.progress.report("images", step.name)
        actions[step.verb]()
        self.context.progress.report("images", f"{step.name}: {self.context.clock.now() - started:.0f} s", done=True)
        return True

    # -- steps ---------------------------------------------------------------------------------------------------------

    def tools(self) -> list[str]:
        """The programs the job runs; Debian's packages have the same names."""
        if self.job.builder == "docker":
            return ["docker"]
        debian = any(base.suite for image in self.job.images.values() for base in image.bases)
        return ["buildah", *(["mmdebstrap"] if debian else []), *(["skopeo"] if self.job.push else [])]

    def install(self) -> None:
        if self.job.builder == "docker":
            raise PlatformError(
                "images_builder is docker, and there is no docker on this machine; install it, or set images_builder to buildah."
            )
        packages.install(self.tools())

    def bootstrap(self, base: Base) -> None:
        target = self.job.rootfs(base)
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name("unfinished.tar")
        unfinished.unlink(missing_ok=True)
        call(mmdebstrap(base, unfinished), timeout=self.job.timeout, env={"DEBIAN_FRONTEND": "noninteractive"})
        unfinished.replace(target)

    def compile(self, base: Base) -> None:
        """A root filesystem of one static program, which has the base's name, and its files."""
        program = t.cast("builds.Program", base.program)
        builds.check_go()
        target, cache = self.job.rootfs(base), self.job.cache
        maker = builds.Builder(cache, cache / "work", cache / "programs", cache / "logs", self.job.timeout)
        with self._compiling:  # programs of one module have most packages in common, and the second finds them compiled
            maker.build(program, lambda line: self.context.progress.report("images", f"{base.name}: {line}"))
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name("unfinished.tar")
        write_layer({f"/{base.name}": maker.binaries / program.file, **maker.files(program)}, {}, unfinished)
        unfinished.replace(target)

    def commit(self, base: Base) -> None:
        if self.stored(base.reference):
            return
        context = self.job.rootfs(base).parent
        containerfile = context.with_name(f"{context.name}.Containerfile")
        write_atomic(containerfile, "FROM scratch\nADD rootfs.tar /\n")
        call(self.buildah.base(base, containerfile, context), timeout=self.job.timeout)

    def download(self, lock: str) -> None:
        image = next(image for image in self.job.images.values() if image.wheels == lock and self.job.needs_wheels(image))
        target = self.job.wheels(image)
        unfinished = target.with_name(f"{target.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        container = call(self.buildah.command("from", "--pull-never", image.bases[0].reference)).strip()
        try:
            call(self.buildah.download(container, self.job.source / lock, unfinished, os.environ), timeout=self.job.timeout)
        finally:
            call(self.buildah.command("rm", container))
        unfinished.rename(target)

    def build_one(self, image: Image) -> None:
        job = self.job
        archive, unfinished = job.archive(image), job.cache / f".{image.file}"
        unfinished.unlink(missing_ok=True)
        if job.builder == "docker":
            where = None if job.push else unfinished
            call(self.docker.build(image, job.source, platforms=job.platforms, archive=where), timeout=job.timeout)
        else:
            wheels = job.wheels(image) if job.needs_wheels(image) else None
            # Pushed images are always a manifest list, so that asking the registry for one works whatever the number of platforms.
            platforms = job.platforms or (("linux/" + architecture(),) if job.push else ())
            if job.push:
                succeeds(self.buildah.forget_list(image))
            call(self.buildah.build(image, job.source, wheels=wheels, platforms=platforms, tls_verify=job.tls_verify), timeout=job.timeout)
            self.refuse_moved(image)
            call(self.buildah.push(image, job.tls_verify) if job.push else self.buildah.save(image, unfinished), timeout=job.timeout)
        if not job.push:
            self.refuse_moved(image)
            unfinished.replace(archive)

    def refuse_moved(self, image: Image) -> None:
        """A tag stands for its sources, so an image of sources that were edited meanwhile must not get it."""
        if (now := self.job.look()[image.name].reference) != image.reference:
            raise PlatformError(f"{self.job.source} was changed while {image.reference} was built from it (it is {now} now); run again.")

    # -- the cache -----------------------------------------------------------------------------------------------------

    def stored(self, reference: str) -> bool:
        return succeeds(self.buildah.command("inspect", "--type", "image", reference))

    def found(self) -> list[Path]:
        """Archives of the job's images, this build's and earlier ones', newest first within a name; none of images that are pushed."""
        archives: list[Path] = []
        for image in () if self.job.push else self.job.images.values():
            # Other programs' archives lie in the same folder, so a name is not enough.
            ours = re.compile(re.escape(image.name) + r"-[^-]+-[0-9a-f]{12}\.tar")
            files = [path for path in self.job.cache.glob(f"{image.name}-*.tar") if ours.fullmatch(path.name)]
            archives += sorted(files, key=lambda path: -path.stat().st_mtime)
        return archives

    def remove(self, archives: Iterable[Path]) -> None:
        """Remove archives, and their images in the storage; bases, wheels and layers stay for the next build."""
        for path in archives:
            path.unlink(missing_ok=True)
            name, _unused, tag = path.stem.partition("-")
            if name in self.job.images and shutil.which("buildah"):
                succeeds(self.buildah.command("rmi", f"{self.job.images[name].reference.rsplit(':', 1)[0]}:{tag}"))

    def forget(self) -> None:
        """Remove earlier builds, but for the newest ones of each name."""
        kept = {self.job.archive(image) for image in self.job.images.values()}
        seen: dict[str, int] = {}
        for path in self.found():
            name = path.name.partition("-")[0]
            seen[name] = seen.get(name, 0) + 1
            if seen[name] > KEEP and path not in kept:
                self.remove([path])

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """One build at a time in a cache; another checkout's is waited for."""
        deadline = self.context.clock.now() + LOCK_SECONDS
        with open(self.job.cache / ".lock", "w", encoding="ascii") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if self.context.clock.now() > deadline:
                        raise PlatformError(f"Another build has held {lock.name} for {LOCK_SECONDS:g} s; end it, then run again.") from None
                    self.context.progress.report("images", "waiting for another build to end")
                    self.context.clock.sleep(2)
            yield


def architecture() -> str:
    """This machine's architecture by the name image platforms use."""
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
