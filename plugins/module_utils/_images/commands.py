# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command lines of mmdebstrap, buildah and docker, as data. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._images.definition import Base, Image

# The package keeps usrmerge out, which would bring 46 MB of Perl into every bookworm image; the hook makes what it stands for.
MERGED_USR = "usr-is-merged"
MERGED_USR_HOOK = "/usr/share/mmdebstrap/hooks/maybe-merged-usr"

# Nobody reads manuals in a container, and files that are not there are not imported into every node.
UNWANTED = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*", "/usr/share/lintian/*")

MIRROR = "http://deb.debian.org/debian"
WHEELS = "/wheels"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# What tells pip where to download from, passed on from this machine.
PIP_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT")
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


def mmdebstrap(base: Base, target: Path) -> list[str]:
    """A root filesystem as a tar archive: what Debian calls essential, and the packages wanted."""
    packages = ",".join((MERGED_USR, *base.packages))
    exclude = [f"--dpkgopt=path-exclude={pattern}" for pattern in UNWANTED]
    mirror = [base.mirror] if base.mirror else []
    lists = "etc/apt/sources.list.d"
    also = [f"--setup-hook=echo 'deb {base.mirror or MIRROR} {suite} main' >\"$1\"/{lists}/{suite}.list" for suite in base.also]
    return [
        "mmdebstrap",
        "--quiet",
        "--variant=essential",
        *also,  # before the other hooks, which read the package lists
        f"--hook-dir={MERGED_USR_HOOK}",
        f"--include={packages}",
        *exclude,
        base.suite,
        str(target),
        *mirror,
    ]


@dataclass(frozen=True)
class Buildah:
    """buildah with a storage of its own, so that the machine's images are left alone.

    A ``private`` buildah (root's) has a mount namespace of its own, so that one that fails or is killed leaves no mount behind.
    """

    root: Path
    runroot: Path
    private: bool = True

    def command(self, *arguments: str) -> list[str]:
        namespace = ["unshare", "--mount"] if self.private else []
        return [*namespace, "buildah", "--root", str(self.root), "--runroot", str(self.runroot), *arguments]

    def base(self, base: Base, containerfile: Path, context: Path) -> list[str]:
        """An image of one layer from a root filesystem: ``containerfile`` adds the archive that lies in ``context``."""
        options = ("--quiet", "--isolation", "chroot", "--network", "host", "--format", "docker")
        return self.command("build", *options, "--tag", base.reference, "--file", str(containerfile), str(context))

    def download(self, container: str, lock: Path, wheels: Path, environment: Mapping[str, str]) -> list[str]:
        """Wheels for the base's own Python, downloaded by it: markers and tags are those of the interpreter that will import them."""
        passed = {name: environment[name] for name in (*PIP_VARIABLES, *PROXY_VARIABLES) if environment.get(name)}
        options = [f"--env={name}={value}" for name, value in {**passed, "PIP_CERT": str(CERTIFICATES)}.items()]
        mounts = [f"--volume={wheels}:{WHEELS}", f"--volume={lock}:/tmp/lock.txt:ro", f"--volume={CERTIFICATES}:{CERTIFICATES}:ro"]
        script = (
            "python3 -m venv /tmp/pip && exec /tmp/pip/bin/pip download --quiet --no-cache-dir --disable-pip-version-check "
            f"--only-binary :all: --require-hashes --no-deps --dest {WHEELS} --requirement /tmp/lock.txt"
        )
        return self.command("run", "--isolation", "chroot", *mounts, *options, container, "--", "sh", "-c", script)

    def build(
        self, image: Image, source: Path, *, wheels: Path | None = None, platforms: Iterable[str] = (), tls_verify: bool = True
    ) -> list[str]:
        """One image, or with ``platforms`` one manifest list with an image each. ``wheels`` stand in for the network."""
        options = ["--isolation", "chroot", "--network", "host", "--format", "docker", "--layers", _tls(tls_verify)]
        # A base made here is in the storage and nowhere else.
        options.append("--pull-never" if any(base.made_here for base in image.bases) else "--pull")
        if wheels:
            options += [f"--volume={wheels}:{WHEELS}:ro", f"--build-arg=PIP_FIND_LINKS={WHEELS}", "--build-arg=PIP_NO_INDEX=1"]
        wanted = ",".join(platforms)
        options += ["--platform", wanted, "--manifest", image.reference] if wanted else ["--tag", image.reference]
        return self.command("build", *options, *_common(image, source))

    def save(self, image: Image, archive: Path) -> list[str]:
        return self.command("push", "--quiet", image.reference, f"docker-archive:{archive}:{image.reference}")

    def push(self, image: Image, tls_verify: bool) -> list[str]:
        return self.command("manifest", "push", "--all", _tls(tls_verify), image.reference, f"docker://{image.reference}")

    def published(self, image: Image, tls_verify: bool) -> list[str]:
        """Succeeds when the registry has the image; buildah itself can only ask a registry with a certificate."""
        return ["skopeo", "inspect", "--raw", _tls(tls_verify), f"docker://{image.reference}"]

    def forget_list(self, image: Image) -> list[str]:
        """Remove the manifest list of an earlier run, to which a build would add."""
        return self.command("manifest", "rm", image.reference)


@dataclass(frozen=True)
class Docker:
    """docker buildx: several platforms in one build, pushed as it is built."""

    def build(self, image: Image, source: Path, *, platforms: Iterable[str] = (), archive: Path | None = None) -> list[str]:
        """Push to the registry, or with ``archive`` write a Docker archive of one platform."""
        wanted = ",".join(platforms)
        options = ["--platform", wanted] if wanted else []
        options += [f"--output=type=docker,dest={archive}"] if archive else ["--push"]
        return ["docker", "buildx", "build", "--pull", *options, "--tag", image.reference, *_common(image, source)]

    def published(self, image: Image) -> list[str]:
        return ["docker", "buildx", "imagetools", "inspect", image.reference]


def _tls(verify: bool) -> str:
    return f"--tls-verify={str(verify).lower()}"


def _common(image: Image, source: Path) -> list[str]:
    arguments = [f"--build-arg={base.argument}={base.reference}" for base in image.bases]
    target = ["--target", image.target] if image.target else []
    contexts = [f"--build-context={name}={source / path}" for name, path in image.contexts]
    return [*arguments, *contexts, *target, "--file", str(source / image.containerfile), str(source)]
