# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command lines of mmdebstrap, buildah and docker, as data. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
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
        options = ["--quiet", "--isolation", "chroot", "--network", "host", "--format", "docker"]
        options += ["--platform", f"linux/{base.architecture}"] if base.architecture else []
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
        self,
        image: Image,
        source: Path,
        *,
        wheels: Path | None = None,
        platform: str = "",
        tls_verify: bool = True,
        labels: Mapping[str, str] | None = None,
        authfile: str = "",
    ) -> list[str]:
        """One image of one ``platform``, this machine's when empty, by the name of ``stored``. ``wheels`` stand in for the network."""
        options = ["--isolation", "chroot", "--network", "host", "--format", "docker", "--layers", _tls(tls_verify)]
        # A base made here is in the storage and nowhere else.
        options.append("--pull-never" if any(base.made_here for base in image.bases) else "--pull")
        options += ["--authfile", authfile] if authfile else []
        if wheels:
            options += [f"--volume={wheels}:{WHEELS}:ro", f"--build-arg=PIP_FIND_LINKS={WHEELS}", "--build-arg=PIP_NO_INDEX=1"]
        options += ["--platform", platform] if platform else []
        return self.command("build", *options, "--tag", self.stored(image, platform), *_common(image, source, labels or {}))

    def stored(self, image: Image, platform: str = "") -> str:
        """What an image is called in the storage: each platform's has a name of its own."""
        return image.reference + platform.replace("/", "-").replace("linux", "", 1)

    def save(self, image: Image, archive: Path) -> list[str]:
        return self.command("push", "--quiet", image.reference, f"docker-archive:{archive}:{image.reference}")

    def lay_out(self, image: Image, platform: str, folder: Path) -> list[str]:
        """An image as files, by which its digest is known before it is pushed."""
        return self.command("push", "--quiet", self.stored(image, platform), f"dir:{folder}")

    def digest(self, reference: str) -> list[str]:
        """Says the digest by which an image of the storage was pulled."""
        return self.command("inspect", "--type", "image", "--format", "{{.FromImageDigest}}", reference)


@dataclass(frozen=True)
class Docker:
    """docker buildx, with a builder that exports OCI archives (driver docker-container, or docker with containerd's store)."""

    def build(
        self,
        image: Image,
        source: Path,
        archive: Path,
        *,
        platform: str = "",
        kind: str = "docker",
        labels: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Write one platform's image as an archive of ``kind`` (docker, oci), without buildx's own attestations: role images makes its own."""
        options = ["--platform", platform] if platform else []
        options += ["--provenance=false", "--sbom=false", f"--output=type={kind},dest={archive}"]
        return ["docker", "buildx", "build", "--pull", *options, "--tag", image.reference, *_common(image, source, labels or {})]


def _tls(verify: bool) -> str:
    return f"--tls-verify={str(verify).lower()}"


def _common(image: Image, source: Path, labels: Mapping[str, str]) -> list[str]:
    arguments = [f"--build-arg={base.argument}={base.reference}" for base in image.bases]
    target = ["--target", image.target] if image.target else []
    contexts = [f"--build-context={name}={source / path}" for name, path in image.contexts]
    described = [f"--label={name}={value}" for name, value in labels.items()]
    return [*arguments, *contexts, *described, *target, "--file", str(source / image.containerfile), str(source)]
