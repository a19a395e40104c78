# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_build
short_description: Build container images whose tags are hashes of what they are made from
version_added: 0.1.0
author:
  - The progressive.platform founders (@progressive-platform)
description:
  - Builds the images that C(images.yml) of a source folder describes, with buildah or docker buildx, into archives or a registry.
  - An image's tag is a hash of its Containerfile, sources and bases. It is built when its archive, or its tag in the
    registry, is not there, and not otherwise. So a tag never moves and an unchanged run takes a few milliseconds.
  - A base image is named by its reference in a registry, or made here from Debian packages by C(mmdebstrap), which needs neither an
    engine nor a registry. Python packages of images on such a base come from wheels that are downloaded once, checked by hash.
  - Root filesystems, wheels and images that do not need each other are made side by side. An interrupted run goes on where it stopped.
  - Labels by the names of OCI say where an image comes from. A bill of materials (CycloneDX) for each platform and the provenance (in-toto, SLSA) lie
    beside the archive; with a push they are OCI artifacts that refer to the image, found by the tags C(sha256-DIGEST.sbom) and C(.provenance), too.
  - An image is pushed by its digest, then what belongs to it, and its tag last. So a tag is never there by halves, and one that is another image is refused.
  - Missing tools (buildah, mmdebstrap, skopeo) are installed with apt; cosign and scanners are not.
options:
  state:
    description:
      - V(present) builds what is missing.
      - V(absent) removes the archives of the images, those of earlier builds too. Bases, wheels, layers and what was pushed stay.
    type: str
    choices: [present, absent]
    default: present
  source:
    description: Folder with C(images.yml) and the Containerfiles. The collection's own by default.
    type: path
  names:
    description: Images to build. All of C(images.yml) by default.
    type: list
    elements: str
    default: []
  registry:
    description: Registry and path the images are named by. C(localhost/progressive) is for images that exist on this machine only.
    type: str
    default: localhost/progressive
  bases:
    description:
      - Base images by name.
      - A string is a reference; a dictionary has C(suite), C(packages) and optionally C(mirror) of a Debian root filesystem, or C(version),
        C(package) and optionally C(modules), C(replaces), C(tags), C(symbols), C(files) and C(generated) of a program that is built from a published Go
        module, with Go.
    type: dict
    required: true
  revision:
    description: Part of every hash. Raise it to build anew with the security updates of the day.
    type: int
    default: 1
  tag:
    description: Tag in place of the hash, for images that are pushed as a release.
    type: str
    default: ""
  builder:
    description: The program that builds.
    type: str
    choices: [buildah, docker]
    default: buildah
  platforms:
    description:
      - Platforms such as C(linux/amd64) and C(linux/arm64), pushed as one index. This machine's own by default.
      - With buildah, what runs in the build (C(RUN)) takes an emulator that the kernel knows; a Go program is compiled for any of them. What cannot be
        built is refused by name before anything is.
    type: list
    elements: str
    default: []
  push:
    description: Whether images go to O(registry). Otherwise each is written to an archive in O(cache).
    type: bool
    default: false
  tls_verify:
    description: Whether the certificates of registries, those of bases too, are verified. Only buildah can leave it out.
    type: bool
    default: true
  authfile:
    description: Credentials' file of the registries, for buildah, skopeo and cosign.
    type: path
  attempts:
    description: How often what may pass by itself (5xx, a connection that breaks) is tried; what a registry has decided (401, 403) is not tried again.
    type: int
    default: 5
  sign:
    description: Whether image and documents are signed with cosign, by digest. Refused before the first change where cosign or the key is missing.
    type: bool
    default: false
  cosign_key:
    description: Key that signs, a file or a key service's address. Keyless when empty.
    type: str
    default: ""
  cosign_options:
    description: Further options of C(cosign sign).
    type: list
    elements: str
    default: []
  scanner:
    description: Who looks for vulnerabilities, in the bill of materials. V(auto) is the first of trivy and grype that is there, or none.
    type: str
    choices: [auto, trivy, grype, none]
    default: auto
  severity:
    description: Least severity of a vulnerability that keeps an image from being pushed.
    type: str
    choices: [low, medium, high, critical, none]
    default: critical
  unfixed:
    description: Whether vulnerabilities that no version of the package has fixed count as well.
    type: bool
    default: false
  repository:
    description: Address of the sources' repository, for labels and provenance. The collection's for its own images by default.
    type: str
    default: ""
  cache:
    description:
      - Folder of archives, root filesystems, wheels and layers.
      - C(${XDG_CACHE_HOME:-~/.cache}/progressive-platform/images) by default.
    type: path
  build_timeout:
    description: Longest time one step may take, in seconds.
    type: float
    default: 1800.0
extends_documentation_fragment:
  - progressive.platform.attributes
  - progressive.platform.kubernetes
attributes:
  action_group: {}
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
notes:
  - The options of the connection are accepted so that the group's defaults may be set; nothing here talks to a cluster.
seealso:
  - plugin: progressive.platform.built_image_references
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Archives of all images, on bases made here
  progressive.platform.image_build:
    bases:
      python: {suite: bookworm, packages: [ca-certificates, dumb-init, libstdc++6, passwd, python3, python3-venv]}
      nginx: {suite: bookworm, packages: [nginx-light]}
      redis: {suite: bookworm, packages: [redis-server, redis-tools]}

- name: A release of the application for two platforms
  progressive.platform.image_build:
    names: [app, agent]
    registry: registry.example.com/team
    tag: 1.4.0
    builder: docker
    platforms: [linux/amd64, linux/arm64]
    push: true
    bases:
      python: python:3.13-slim
"""

RETURN = r"""
images:
  description: Every image wanted.
  returned: O(state=present)
  type: list
  elements: dict
  contains:
    name:
      description: Its name in C(images.yml).
      type: str
    reference:
      description: What a pod names it by.
      type: str
    archive:
      description: Path of its archive; null for a pushed image.
      type: str
    built:
      description: Whether this run built it, or would in check mode.
      type: bool
    digest:
      description: What the registry has, an index's with several platforms; null without a push.
      type: str
    sboms:
      description: Paths of the bills of materials, one a platform; none where another machine built the image.
      type: list
      elements: str
    provenance:
      description: Path of the provenance; null where another machine built the image.
      type: str
    vulnerabilities:
      description: How many of each severity were found; null when nothing was built or no scanner run.
      type: dict
scanner:
  description: The scanner that was chosen; empty for none.
  returned: O(state=present)
  type: str
removed:
  description: Archives that were removed, or would be in check mode.
  returned: O(state=absent)
  type: list
  elements: str
references:
  description: References by name.
  returned: O(state=present)
  type: dict
  sample:
    app: localhost/progressive/app:0.1.0-0f3b2c4d5e6a
"""

from ansible_collections.progressive.platform.plugins.module_utils._images.arguments import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run)


if __name__ == "__main__":
    main()
