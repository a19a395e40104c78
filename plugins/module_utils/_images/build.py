# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Building what is missing: root filesystems, wheels and images side by side as far as one does not need the other.

Whatever a step makes is complete when it is there (written beside its name and renamed, or committed by buildah), so an interrupted
run goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import re
import shutil
import threading
import typing as t
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._images import contents, labels, provenance, publish, recipe, sbom, scan
from ansible_collections.progressive.platform.plugins.module_utils._images.commands import Buildah, Docker, mmdebstrap
from ansible_collections.progressive.platform.plugins.module_utils._images.definition import Base, Image, architecture, digest
from ansible_collections.progressive.platform.plugins.module_utils._local import builds, packages
from ansible_collections.progressive.platform.plugins.module_utils._local.images import write_layer
from ansible_collections.progressive.platform.plugins.module_utils._local.shell import call, succeeds, write_atomic
from ansible_collections.progressive.platform.plugins.module_utils._local.steps import Step, execute
from ansible_collections.progressive.platform.plugins.module_utils._mirror.skopeo import Skopeo
from ansible_collections.progressive.platform.plugins.module_utils._mirror.sources import sha256
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError

KEEP = 3  # archives of an image that stay: this one and two to roll back to
LOCK_SECONDS = 1800.0
REGISTRY_WORKERS = 4  # questions to a registry side by side
BUILDER = "https://github.com/progressive-platform/progressive.platform/tree/main/roles/images"


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
    tag: str = ""
    repository: str = ""
    authfile: str = ""
    attempts: int = 5
    cosign: publish.Cosign | None = None
    scanner: str = ""
    severity: str = "none"
    unfixed: bool = False

    @property
    def architectures(self) -> list[str]:
        """Those that are built, this machine's when none is named."""
        return list(dict.fromkeys(platform.split("/")[1] for platform in self.platforms)) or [architecture()]

    def beside(self, image: Image, suffix: str) -> Path:
        """A file about an image, beside its archive, or where that would be."""
        return self.cache / f"{image.file.removesuffix('.tar')}.{suffix}"

    def bill(self, image: Image, platform: str) -> Path:
        return self.beside(image, f"{platform.partition('/')[2].replace('/', '-') or architecture()}.cdx.json")

    def report(self, image: Image, platform: str) -> Path:
        return self.beside(image, f"{platform.partition('/')[2].replace('/', '-') or architecture()}.vulnerabilities.json")

    def provenance(self, image: Image) -> Path:
        return self.beside(image, "provenance.json")

    @property
    def bases(self) -> dict[str, Base]:
        """Every base of every architecture by its key."""
        return {base.key: base for image in self.images.values() for wanted in self.architectures for base in image.on(wanted).bases}

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
        # Each cache has its own: two storages with one would take each other's locks for theirs.
        runroot = runtime / f"progressive-platform-buildah-{digest([str(job.cache)])}"
        self.buildah = Buildah(job.cache / "storage", runroot, private=os.geteuid() == 0)
        self.docker = Docker()
        self.skopeo = Skopeo(
            authfile=job.authfile,
            source_tls_verify=job.tls_verify,
            tls_verify=job.tls_verify,
            attempts=job.attempts,
            timeout=job.timeout,
            clock=context.clock,
            report=lambda line: context.progress.report("images", line),
        )
        self.digests: dict[str, str] = {}  # of what the registry has, by reference
        self.findings: dict[str, list[scan.Finding]] = {}  # of what was built, by the image's name
        self._compiling = threading.Lock()
        self._sums: dict[Path, str] = {}

    def missing(self) -> list[Image]:
        """The images whose archive, or in a registry whose tag, is not there. PlatformError when a release's tag is there and made of other sources."""
        if self.job.push:
            self.ask()
        return [image for image in self.job.images.values() if not self.is_built(image)]

    def ask(self) -> None:
        """Ask the registry for the digests of all images; what it refuses is said before anything is built."""
        if not shutil.which("skopeo"):
            if self.context.check:  # nothing is installed for a look, and to build all is the answer that is never too little
                return
            packages.install(["skopeo"])
        images = list(self.job.images.values())
        with ThreadPoolExecutor(max_workers=REGISTRY_WORKERS) as pool:
            found = pool.map(lambda image: self.skopeo.digest(image.reference), images)
            self.digests = {image.reference: digest for image, digest in zip(images, found, strict=True) if digest}
            if self.job.tag:  # the content's own tag says by itself what it is made of
                list(pool.map(self.refuse_other_content, [image for image in images if image.reference in self.digests]))

    def refuse_other_content(self, image: Image) -> None:
        content = self.skopeo.labels(image.reference, self.job.architectures[0]).get(labels.CONTENT, "")
        if content != image.content:
            raise PlatformError(
                f"{image.reference} is {self.digests[image.reference]} in the registry, made of {content or 'nobody knows what'}, and these sources are "
                f"{image.content}. A tag never moves: name the release by another images_tag, or check out the sources that it was made of."
            )

    def is_built(self, image: Image) -> bool:
        return image.reference in self.digests if self.job.push else self.job.archive(image).is_file()

    def build(self, images: list[Image]) -> None:
        """Build ``images``; PlatformError with the tool's own words when one fails."""
        self.job.cache.mkdir(parents=True, exist_ok=True)
        with self.alone():
            if self.job.push:
                self.ask()
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
            for base in (base for wanted in self.job.architectures for base in image.on(wanted).bases):
                if base.made_here:
                    make = ("compile", base.key) if base.program else ("bootstrap", base.key, *install)
                    rootfs = [add(*make)] if not self.job.rootfs(base).is_file() else []
                    after.append(add("commit", base.key, *install, *rootfs))
            if self.job.needs_wheels(image) and not self.job.wheels(image).is_dir():
                after.append(add("download", image.wheels, f"commit {image.bases[0].name}"))
            last[image.containerfile] = add("build", image.name, *after)
        return list(steps.values())

    def do(self, step: Step) -> bool:
        bases = self.job.bases
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
            return ["docker", *(["skopeo"] if self.job.push else [])]
        debian = any(base.suite for image in self.job.images.values() for base in image.bases)
        return ["buildah", *(["mmdebstrap"] if debian else []), *(["skopeo"] if self.job.push else [])]

    def install(self) -> None:
        if self.job.builder == "docker" and not shutil.which("docker"):
            raise PlatformError(
                "images_builder is docker, and there is no docker on this machine; install it, or set images_builder to buildah."
            )
        packages.install([tool for tool in self.tools() if tool != "docker"])

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
        """Build, describe and keep one image; documents are there before what they are about."""
        started = datetime.datetime.now(datetime.UTC)
        origin = labels.look(image, self.job.source, self.job.repository)
        base = recipe.last_base(image, (self.job.source / image.containerfile).read_text(encoding="utf-8"))
        described = labels.labels(image, origin, base)
        if self.job.push:
            self.push_one(image, described, origin, started)
            return
        job = self.job
        archive, unfinished = job.archive(image), job.cache / f".{image.file}"
        unfinished.unlink(missing_ok=True)
        platform = next(iter(job.platforms), "")
        if job.builder == "docker":
            call(self.docker.build(image, job.source, unfinished, platform=platform, labels=described), timeout=job.timeout)
        else:
            self.build_stored(image, platform, described)
            self.refuse_moved(image)
            call(self.buildah.save(image, unfinished), timeout=job.timeout)
        self.refuse_moved(image)
        whole = f"sha256:{sha256(unfinished)}"
        self.describe(image, platform, whole, contents.of_archive(unfinished))
        write_atomic(job.provenance(image), self.provenance(image, {archive.name: whole}, described, origin, started))
        unfinished.replace(archive)

    def push_one(self, image: Image, described: Mapping[str, str], origin: labels.Origin, started: datetime.datetime) -> None:
        """Build every platform into a folder, look at what is in it, and push all of it; nothing leaves this machine before it was scanned."""
        job = self.job
        room = job.cache / "publish" / image.file.removesuffix(".tar")
        shutil.rmtree(room, ignore_errors=True)
        parts, documents = [], []
        try:
            for platform in job.platforms or (f"linux/{architecture()}",):
                folder = room / platform.replace("/", "-")
                folder.mkdir(parents=True)
                if job.builder == "docker":
                    archive = room / "image.tar"
                    call(
                        self.docker.build(image, job.source, archive, platform=platform, kind="oci", labels=described), timeout=job.timeout
                    )
                    self.skopeo.copy(f"oci-archive:{archive}", f"dir:{folder}", "")
                    archive.unlink()
                else:
                    self.build_stored(image, platform, described)
                    call(self.buildah.lay_out(image, platform, folder), timeout=job.timeout)
                part = publish.part(folder, platform)
                text = self.describe(image, platform, part.digest, contents.of_folder(folder))
                parts.append(part)
                documents.append(publish.Document(part, "sbom", sbom.MEDIA_TYPE, text))
            self.refuse_moved(image)
            whole = publish.index(parts, described, room / "index") if len(parts) > 1 else parts[0]
            subjects = {image.reference: whole.digest, **{f"{image.reference} {one.platform}": one.digest for one in parts}}
            statement = self.provenance(image, subjects, described, origin, started)
            write_atomic(job.provenance(image), statement)
            documents.append(publish.Document(whole, "provenance", provenance.MEDIA_TYPE, statement))
            publish.push(
                image.reference, whole, documents, room, self.skopeo, job.cosign, lambda line: self.context.progress.report("images", line)
            )
            self.digests[image.reference] = whole.digest
        finally:
            shutil.rmtree(room, ignore_errors=True)

    def build_stored(self, image: Image, platform: str, described: Mapping[str, str]) -> None:
        job = self.job
        own = image.on(platform.split("/")[1]) if platform else image
        wheels = job.wheels(own) if job.needs_wheels(own) else None
        command = self.buildah.build(
            own, job.source, wheels=wheels, platform=platform, tls_verify=job.tls_verify, labels=described, authfile=job.authfile
        )
        call(command, timeout=job.timeout)

    # -- what is known of an image ----------------------------------------------------------------------------------------

    def describe(self, image: Image, platform: str, digest: str, found: contents.Contents) -> str:
        """Write the bill of materials and what the scanner finds in it; PlatformError when that is too grave to be pushed."""
        job = self.job
        text = sbom.make(image.reference, digest, found)
        bill = job.bill(image, platform)
        write_atomic(bill, text)
        if job.scanner:
            self.context.progress.report("images", f"{image.name}: {job.scanner} looks for vulnerabilities")
            findings = scan.scan(job.scanner, bill, job.report(image, platform), job.timeout)
            self.findings.setdefault(image.name, []).extend(findings)
            if job.push:
                scan.refuse(image.reference, scan.refused(findings, job.severity, job.unfixed), job.report(image, platform))
        return text

    def provenance(
        self, image: Image, subjects: Mapping[str, str], described: Mapping[str, str], origin: labels.Origin, started: datetime.datetime
    ) -> str:
        job = self.job
        own = [image.on(wanted) for wanted in job.architectures]
        digests = {base.reference: self.base_digest(base) for one in own for base in one.bases}
        made_of = [entry for one in own for entry in provenance.materials(one, job.source, origin, digests)]
        parameters = {
            "image": image.name,
            "reference": image.reference,
            "containerfile": image.containerfile,
            "target": image.target,
            "platforms": list(job.platforms) or [f"linux/{architecture()}"],
            "bases": {base.argument: base.reference for base in image.bases},
            "labels": dict(described),
        }
        return provenance.statement(
            subjects,
            parameters,
            list({str(entry): entry for entry in made_of}.values()),
            builder=BUILDER,
            versions={job.builder: call([job.builder, "--version"]).strip()},
            started=started,
            finished=datetime.datetime.now(datetime.UTC),
        )

    def base_digest(self, base: Base) -> str:
        """Of a base made here its root filesystem's, of a registry's the one it was pulled by; empty where nobody says (docker keeps it to itself)."""
        if base.made_here:
            rootfs = self.job.rootfs(base)
            return self._sums.get(rootfs) or self._sums.setdefault(rootfs, f"sha256:{sha256(rootfs)}")
        return call(self.buildah.digest(base.reference)).strip() if self.job.builder == "buildah" else ""

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
            for about in path.parent.glob(f"{path.stem}.*.json"):
                about.unlink()
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
