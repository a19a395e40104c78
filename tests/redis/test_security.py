# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Users, TLS and passwords that change, on real redis-server processes: nobody who may is refused, nobody who may not is let in, nobody is cut off."""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube import certificate
from ansible_collections.progressive.platform.plugins.module_utils._redis import access, grants
from ansible_collections.progressive.platform.plugins.module_utils._redis.users import RULES
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, PlatformError
from ansible_collections.progressive.platform.tests.redis.lab import Lab
from ansible_collections.progressive.platform.tests.redis.secure import NAME, TESTER, SecureLab, SecureServer, secrets
from redis.backoff import ConstantBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.credentials import CredentialProvider
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureLab]:
    """Six servers behind TLS and users, formed once for the whole file; tests put passwords and certificates back."""
    lab = SecureLab(tmp_path_factory.mktemp("vault"), secrets())
    try:
        lab.add(6)
        yield lab
    finally:
        lab.stop()


@pytest.fixture
def secure(vault: SecureLab, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> SecureLab:
    monkeypatch.setenv("XDG_STATE_HOME", str(vault.directory / "state"))
    if not vault.masters():
        vault.converge()
    vault.given["password"] = secrets()["operator"][0]
    vault.users(secrets(), username=TESTER[0], password=TESTER[1])
    return vault


def hidden(text: object) -> None:
    """No password of any user, former or next, and no hash of one."""
    shown = json.dumps(text) if not isinstance(text, str) else text
    assert not re.search(r"-(first|second|third)-\d{8}", shown)
    assert not re.search(r"#[0-9a-f]{64}", shown)


class Client(CredentialProvider):
    """A client of the cluster as applications are: redis-py, TLS, user ``application``, the password read from a file for every new connection."""

    def __init__(self, lab: SecureLab, file: Path) -> None:
        self.lab = lab
        self.file = file
        self.done = self.failed = 0
        self.errors: list[str] = []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def get_credentials(self) -> tuple[str, str]:
        return "application", self.file.read_text()

    def connect(self) -> RedisCluster:
        return RedisCluster(
            startup_nodes=[ClusterNode(server.host, server.port) for server in self.lab.servers],
            credential_provider=self,
            ssl=True,
            ssl_ca_certs=str(self.lab.folder / "ca.crt"),
            ssl_check_hostname=False,
            socket_timeout=5,
            retry=Retry(ConstantBackoff(0), 0),
        )

    def __enter__(self) -> Client:
        self.thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stopping.set()
        self.thread.join(30)

    def _work(self) -> None:
        """One long-lived client, and every few operations a new one: new connections are what a changed password breaks."""
        kept = self.connect()
        while not self.stopping.is_set():
            client = kept if self.done % 10 else self.connect()
            key = f"rotation-{self.done}"
            try:
                client.set(key, self.done)
                assert client.get(key) == str(self.done).encode()
                self.done += 1
            except (RedisError, RedisClusterException, OSError, AssertionError) as error:
                self.failed += 1
                self.errors.append(f"{type(error).__name__}: {error}")
                self.done += 1
            if client is not kept:
                client.close()
        kept.close()


# ---- formed and healed with users over TLS ----------------------------------------------------------------------------------


def test_a_cluster_forms_and_is_left_alone_over_tls_as_a_user_with_least_commands(secure: SecureLab) -> None:
    assert secure.settled()
    for server in secure.servers:
        said = server("CONFIG", "GET", "port", "tls-cluster", "tls-replication")
        assert dict(zip(said[::2], said[1::2], strict=True)) == {"port": "0", "tls-cluster": "yes", "tls-replication": "yes"}
    info = secure.info(masters=3, replicas_per_master=1)
    assert info["state"] == "S4" and info["is_available"] and info["errors"] == []
    result = secure.quiet()
    assert result["state"] == "S4"
    secure.fill(30)
    assert secure.read(30) == 30
    hidden(info)
    hidden(result)


def test_a_failed_master_is_replaced_and_comes_back_over_tls(secure: SecureLab) -> None:
    secure.fill(30)
    victim = secure.masters()[0]
    victim.kill()
    secure.wait(lambda: len(secure.masters()) == 3, 60)
    victim.start()
    result = secure.converge()
    assert result["state"] == "S4" and secure.settled() and secure.read(30) == 30
    hidden(result)


def test_slots_move_with_their_keys_over_tls_as_the_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MIGRATE logs in at the other node: as the operator, by TLS, and nothing of it is shown."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    lab = SecureLab(tmp_path / "lab", secrets())
    try:
        lab.add(3)
        lab.converge(replicas_per_master=0)
        lab.fill(60)
        lab.add(1)
        moved = lab.converge(masters=4, replicas_per_master=0)
        assert moved["state"] == "S4" and len(lab.masters()) == 4 and lab.read(60) == 60
        hidden(moved)
        lab.quiet(masters=4, replicas_per_master=0)
    finally:
        lab.stop()


# ---- what each user may, on the server itself -------------------------------------------------------------------------------

PERMITTED: dict[str, list[str]] = {
    # Everything that the collection's own code sends as the operator is recorded in every test here (conftest.py); this is the rest.
    "operator": ["shutdown nosave", "migrate 127.0.0.1 1 k 0 1", "acl setuser x", "bgsave", "cluster links"],
    "replication": ["ping", "psync ? -1", "replconf ack 0"],
    "application": [
        "set k v", "get k", "hset h f v", "zadd z 1 m", "eval return(1) 0", "publish c m", "multi", "readonly", "cluster slots", "cluster info",
        "command", "client setname x", "scan 0", "xadd s * f v", "fcall f 0", "info server", "watch k", "expire k 1", "blpop l 1", "asking",
    ],
    "monitor": ["info all", "cluster info", "cluster nodes", "latency latest", "latency histogram", "slowlog get 1", "slowlog len", "dbsize", "client list"],
    "health": ["ping", "info", "cluster nodes", "set progressive.platform:health:{1} v", "get progressive.platform:health:{1}", "readonly", "wait 1 1"],
}  # fmt: skip
REFUSED: dict[str, list[str]] = {
    "operator": ["eval return(1) 0", "debug sleep 0", "monitor", "replicaof no one", "module list", "keys *", "hset h f v"],
    "replication": ["get k", "info", "cluster nodes", "config get masterauth", "acl list"],
    "application": [
        "config get masterauth", "config set maxmemory 1", "acl list", "flushall", "flushdb", "keys *", "cluster reset", "cluster failover", "shutdown",
        "debug sleep 0", "cluster forget x", "cluster setslot 1 stable", "migrate 127.0.0.1 1 k 0 1", "replicaof no one", "monitor", "client kill id 1",
        "function flush", "bgsave", "slowlog get 1", "client list", "script kill", "save", "restore k 0 v",
    ],
    "monitor": ["config get masterauth", "get k", "set k v", "acl list", "cluster reset", "scan 0", "eval return(1) 0", "client kill id 1", "slowlog reset"],
    "health": ["set other v", "get other", "config get masterauth", "acl list", "flushall", "cluster failover", "cluster reset", "keys *"],
}  # fmt: skip


def asked_as(server: SecureServer, user: str, command: str) -> str:
    """What ACL DRYRUN says: the server's own judgement, without doing it."""
    return str(server("ACL", "DRYRUN", user, *command.split()))


@pytest.mark.parametrize("user", RULES)
def test_a_user_may_what_its_work_needs_and_nothing_else(secure: SecureLab, user: str) -> None:
    server = t.cast(SecureServer, secure.servers[0])
    assert dict.fromkeys(PERMITTED[user], "OK") == {command: asked_as(server, user, command) for command in PERMITTED[user]}
    let_in = [command for command in REFUSED[user] if asked_as(server, user, command) == "OK"]
    assert let_in == []


def test_the_default_user_is_off(secure: SecureLab) -> None:
    lines = [str(line) for line in secure.servers[0]("ACL", "LIST")]
    assert any(re.match(r"user default off .*-@all", line) for line in lines)


# ---- users come to servers that run -----------------------------------------------------------------------------------------


def test_users_are_compared_by_what_they_may_and_a_second_run_is_quiet(secure: SecureLab) -> None:
    again = secure.users(secrets())
    assert again["changed"] is False and again["plan"] == []
    server = secure.servers[2]
    server("ACL", "SETUSER", "application", "+flushall")
    foreseen = secure.users(secrets(), check=True)
    assert [step["node"] for step in foreseen["plan"]] == [server.name]
    assert asked_as(t.cast(SecureServer, server), "application", "flushall") == "OK"
    repaired = secure.users(secrets())
    assert repaired["changed"] and "has other rights" in repaired["plan"][0]["reason"]
    assert asked_as(t.cast(SecureServer, server), "application", "flushall") != "OK"
    hidden(foreseen)
    hidden(repaired)


def test_a_user_of_ones_own_with_keys_of_its_own(secure: SecureLab) -> None:
    own = [{"name": "reports", "rules": "~orders:* -@all +@read", "key": None, "passwords": ["reports-first-00000009"]}]
    made = secure.users({}, users=own)
    assert len(made["plan"]) == 6
    server = t.cast(SecureServer, secure.servers[0])
    assert asked_as(server, "reports", "get orders:1") == "OK"
    assert asked_as(server, "reports", "get other") != "OK" and asked_as(server, "reports", "set orders:1 v") != "OK"
    assert secure.users({}, users=own)["changed"] is False
    assert secure.users(secrets())["changed"] is False, "users that are not named are left alone"
    for each in secure.servers:
        each("ACL", "DELUSER", "reports")


def test_a_cluster_from_before_there_were_users_is_led_over_while_clients_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """requirepass only, then five users and no default user: links of replication are taken over, a client that still uses it keeps it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    secret = "operator-first-00000000"
    lab = SecureLab(tmp_path / "lab", {}, default=f"on {access.hashed(secret)} ~* &* +@all")
    try:
        for server in lab.add(6, masterauth=secret):
            assert server("ACL", "WHOAMI") == "tester"
        lab.given["password"] = secret
        assert lab.converge()["state"] == "S4"
        lab.fill(30)
        late = access.Door(access.Access("", (secret,), access.Tls((lab.folder / "ca.crt").read_text(), server_name=NAME)), Clock(), 5)
        kept = late.open(lambda: _dial(lab.servers[0]), NAME).connection
        first = lab.users(secrets(), default_user="off")
        assert first["changed"] and len(first["warnings"]) == 1 and lab.servers[0].name in first["warnings"][0]
        assert kept.call([("PING",)], time.monotonic() + 5) == ["PONG"]
        kept.close()
        secure_user = {str(server("CONFIG", "GET", "masteruser")[1]) for server in lab.servers}
        assert secure_user == {"replication"}
        lab.wait(lambda: not lab.users(secrets(), default_user="off")["warnings"], 20)
        assert lab.users(secrets(), default_user="off")["changed"] is False
        assert all(str(line) == "user default off sanitize-payload resetchannels -@all" for line in _default_lines(lab))
        lab.wait(lab.settled, 30)
        assert lab.read(30) == 30
        assert lab.quiet()["state"] == "S4"
        hidden(first)
    finally:
        lab.stop()


def _default_lines(lab: Lab) -> list[str]:
    return [next(str(line) for line in server("ACL", "LIST") if str(line).startswith("user default")) for server in lab.servers]


def _dial(server: t.Any) -> t.Any:
    return socket.create_connection((server.host, server.port), timeout=5)


# ---- each wrong credential in its own words ---------------------------------------------------------------------------------


def refusal(call: t.Callable[[], object]) -> str:
    with pytest.raises(PlatformError) as caught:
        call()
    hidden(caught.value.message)
    hidden(repr(caught.value.details))
    return caught.value.message


def test_every_wrong_credential_has_its_own_message(secure: SecureLab, tmp_path: Path, lab: Lab) -> None:
    other = tmp_path / "other.crt"
    other.write_text(certificate.authority("somebody else", 10, datetime.datetime.now(datetime.UTC)).cert)
    ca = str(secure.folder / "ca.crt")
    first = secure.servers[0].name
    messages = {
        "WRONGPASS": refusal(lambda: secure.converge(password="operator-third-00000000")),
        "WRONGPASS twice": refusal(lambda: secure.converge(password="operator-third-00000000", former_password="operator-third-00000001")),
        "NOAUTH": refusal(lambda: secure.converge(username=None, password=None)),
        "NOPERM": refusal(lambda: secure.converge(username="application", password=secrets()["application"][0])),
        "NOPERM at once": refusal(lambda: secure.converge(username="replication", password=secrets()["replication"][0])),
        "name": refusal(lambda: secure.converge(tls={"ca_cert": ca, "server_name": "other.example.test"})),
        "authority": refusal(lambda: secure.converge(tls={"ca_cert": str(other), "server_name": NAME})),
        "plain to TLS": refusal(lambda: secure.converge(tls=None)),
        "TLS to plain": refusal(lambda: lab.converge(tls={"ca_cert": ca, "server_name": NAME})),
    }
    wanted = {
        "WRONGPASS": [f"{first}: it refuses the password of user 'operator' (WRONGPASS)", "former_password"],
        "WRONGPASS twice": ["the password and the former one of user 'operator'"],
        "NOAUTH": ["it wants a password (NOAUTH) and none was given", "password_secret"],
        "NOPERM": [
            "it does not permit user 'application' function|list, config|get (NOPERM)",
            "ACL SETUSER application +config|get +function|list",
        ],
        "NOPERM at once": ["it does not permit user 'replication' info (NOPERM)", "ACL SETUSER replication +info"],
        "name": [f"its certificate is not for other.example.test but for {NAME}", "tls.server_name"],
        "authority": ["its certificate was not issued by the given authority", "tls.ca_cert", "openssl s_client"],
        "plain to TLS": ["it speaks TLS on this port and was asked without", "Give the option tls"],
        "TLS to plain": ["it does not speak TLS on this port", "Leave out the option tls"],
    }
    for case, parts in wanted.items():
        for part in parts:
            assert part in messages[case], (case, messages[case])
    assert len(set(messages.values())) == len(messages)
    assert secure.settled()


def test_an_expired_certificate_is_said_to_be_expired(secure: SecureLab) -> None:
    server = secure.servers[5]
    secure.certify([NAME], 1, since=3)
    try:
        reload(server, secure.folder)
        assert "its certificate has expired" in refusal(secure.converge)
    finally:
        secure.certify([NAME], 90)
        reload_blind(server, secure.folder)
    assert secure.converge()["state"] == "S4"


@pytest.mark.parametrize(
    ("tls", "text"),
    [
        ({"ca_cert": "/nowhere/ca.crt"}, "cannot be read"),
        ({"ca_cert": __file__}, "no readable PEM"),
        ({"cert": __file__}, "a client certificate needs both"),
        ({"cert": __file__, "key": __file__}, "not a certificate and its key"),
    ],
)
def test_bad_files_are_refused_before_anything_is_asked(secure: SecureLab, tls: dict[str, str], text: str) -> None:
    assert text in refusal(lambda: secure.converge(tls=tls))


def test_bad_users_are_refused_before_anything_is_asked(secure: SecureLab) -> None:
    def user(**changes: t.Any) -> dict[str, t.Any]:
        return {"name": "one", "rules": "+get", "key": None, "passwords": ["long-enough-first-00000000"], **changes}

    cases = [
        ([user(name="default")], "the default user has the option default_user"),
        ([user(), user()], "twice"),
        ([user(rules="")], "has no rules"),
        ([user(rules="+get >secret")], "is no rule that is taken here"),
        ([user(passwords=["short"])], "less than 12 characters"),
        ([user(passwords=[])], "has no password for user 'one'"),
    ]
    for users, text in cases:
        assert text in refusal(lambda users=users: secure.users({}, users=users))  # type: ignore[misc]
    assert "short" not in refusal(lambda: secure.users({}, users=[user(passwords=["short"])])).split("'one'")[1]
    refused = refusal(lambda: secure.users({}, users=[user(rules="+nosuchcommand")]))
    assert "refuses ACL SETUSER one" in refused and "nosuchcommand" in refused


# ---- passwords that change --------------------------------------------------------------------------------------------------


def generation(word: str) -> dict[str, str]:
    return {name: f"{name}-{word}-{index:08d}" for index, name in enumerate(RULES)}


class Rotation:
    """The steps of playbooks/rotate.yml with a dictionary in the Secret's place: stage, users, promote, clients, retire, users."""

    def __init__(self, lab: SecureLab, file: Path) -> None:
        self.lab = lab
        self.file = file
        self.current, self.coming, self.former = generation("first"), dict[str, str](), dict[str, str]()

    def taken(self) -> dict[str, tuple[str, ...]]:
        values = (self.coming, self.current, self.former)
        return {name: tuple(dict.fromkeys(value[name] for value in values if name in value)) for name in RULES}

    def given(self) -> dict[str, t.Any]:
        """As the module reads it from the Secret: the current one, and the other that is under way."""
        other = (self.coming or self.former).get("operator")
        return {"password": self.current["operator"], "former_password": other}

    def stage(self) -> None:
        if not self.coming and not self.former:
            self.coming = generation("second")

    def users(self) -> None:
        hidden(self.lab.users(self.taken(), **self.given()))

    def promote(self) -> None:
        if self.coming:
            self.current, self.coming, self.former = self.coming, {}, self.current

    def clients(self) -> None:
        self.file.write_text(self.current["application"])

    def retire(self) -> None:
        self.former = {}

    def steps(self) -> list[t.Callable[[], None]]:
        return [self.stage, self.users, self.promote, self.clients, self.retire, self.users]


def goes_on(client: Client, rounds: int = 20) -> None:
    seen = client.done
    until(lambda: client.done > seen + rounds)


def test_a_client_sees_no_failure_while_every_password_changes(secure: SecureLab, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(generation("first")["application"])
    rotation = Rotation(secure, file)
    with Client(secure, file) as client:
        until(lambda: client.done > 20)
        for step in rotation.steps():
            step()
            goes_on(client)
        # Replicas log in anew with the new password too: their links are cut once the former one is gone.
        for server in secure.servers:
            server("CLIENT", "KILL", "TYPE", "REPLICA")
        secure.wait(secure.settled, 30)
        goes_on(client, 60)
    assert (client.failed, client.errors) == (0, []) and client.done > 150
    assert "(WRONGPASS)" in refusal(lambda: secure.converge(password=generation("first")["operator"]))
    assert secure.users(rotation.taken(), **rotation.given())["changed"] is False
    secure.given["password"] = rotation.current["operator"]
    assert secure.quiet()["state"] == "S4"
    assert secure.users({name: (value,) for name, value in generation("first").items()})["changed"]


@pytest.mark.parametrize("stop", [2, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (1, 3, 4, 5))])
def test_a_rotation_that_stops_after_any_step_is_finished_by_the_next(secure: SecureLab, tmp_path: Path, stop: int) -> None:
    """Stopped after ``stop`` steps: clients with the password of the moment work, and beginning again from the first step ends well."""
    file = tmp_path / "password"
    file.write_text(generation("first")["application"])
    rotation = Rotation(secure, file)
    for step in rotation.steps()[:stop]:
        step()
    with Client(secure, file) as client:
        until(lambda: client.done > 20)
        for step in rotation.steps():
            step()
            goes_on(client)  # one that has read the file before the step logs in after it
    assert (client.failed, client.errors) == (0, [])
    assert rotation.former == {} and rotation.coming == {}
    assert secure.users(rotation.taken(), **rotation.given())["changed"] is False
    assert secure.users({name: (value,) for name, value in generation("first").items()}, **rotation.given())["changed"]


KILLED = """
import json, os, sys
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader()
from ansible_collections.progressive.platform.plugins.module_utils._redis import grants, nodes
from ansible_collections.progressive.platform.plugins.module_utils._run import Context
params, kill = json.load(sys.stdin), int(sys.argv[1])
written, call_all = 0, nodes.call_all
def counted(connections, commands, deadline):
    global written
    if not any(pipeline[0][:2] in (("ACL", "SETUSER"), ("CONFIG", "SET")) for pipeline in commands.values() if pipeline):
        return call_all(connections, commands, deadline)
    answers = {}
    for name, pipeline in commands.items():
        for command in pipeline:
            if written == kill:
                os.kill(os.getpid(), 9)
            written += 1
            answers.setdefault(name, []).extend(call_all(connections, {name: [command]}, deadline)[name])
    return answers
nodes.call_all = counted
print(json.dumps(grants.run(params, Context())))
"""


@pytest.mark.parametrize("after", [7, *(pytest.param(after, marks=pytest.mark.slow) for after in (0, 1, 17, 29, 31, 35))])
def test_a_run_killed_after_any_write_leaves_a_cluster_that_works(secure: SecureLab, after: int) -> None:
    """SIGKILL after the k-th of the writes that a change of all passwords takes: 30 for the users, 6 for the replicas' login."""
    coming = {name: (generation("third")[name], generation("first")[name]) for name in RULES}
    users = [{"name": name, "rules": "", "key": None, "passwords": list(given)} for name, given in coming.items()]
    params = {name: option.get("default") for name, option in grants.ARGUMENTS.items()}
    params |= {"addresses": secure.addresses, "users": users, **secure.given}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(after)],
        input=json.dumps(params),
        env={**os.environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    hidden(done.stdout + done.stderr)
    for server in secure.servers:
        server("CLIENT", "KILL", "TYPE", "REPLICA")
    secure.wait(secure.settled, 30)
    assert secure.quiet()["state"] == "S4"
    healed = secure.users(coming)
    assert healed["changed"] and secure.users(coming)["changed"] is False
    assert secure.users(secrets())["changed"], "the newer password ends"


def test_s35_the_module_itself_finishes_a_password_that_changed_half_way(secure: SecureLab) -> None:
    """Plain hosts without redis_users: some nodes take only the former password; redis_cluster lets the new one in everywhere, the former stays."""
    former, new = secrets()["operator"][0], "operator-second-00000000"
    for server in secure.servers[:2]:
        server("ACL", "SETUSER", "operator", ">" + new)
    foreseen = secure.converge(check=True, password=new, former_password=former)
    assert [(step["state"], step["action"]) for step in foreseen["plan"]] == [("S35", "password")]
    done = secure.converge(password=new, former_password=former)
    assert [(step["state"], len(step["commands"])) for step in done["plan"]] == [("S35", 4)]
    assert all(command["command"] == "ACL SETUSER operator #***" for command in done["plan"][0]["commands"])
    assert secure.quiet(password=new, former_password=former)["state"] == "S4"
    assert secure.quiet(password=former)["state"] == "S4"
    hidden(foreseen)
    hidden(done)


def test_s35_what_replicas_log_in_with_follows(lab: Lab) -> None:
    """The default user's password, as clusters have it that know no users: everybody takes both, then masterauth is the new one everywhere."""
    former, new = "cluster-first-00000000", "cluster-second-00000000"
    for server in lab.servers:
        server.pipeline([("CONFIG", "SET", "masterauth", former), ("CONFIG", "SET", "requirepass", former)])
        server.password = former
    lab.converge(password=former)
    for server in lab.servers[:3]:
        server("ACL", "SETUSER", "default", ">" + new)
    done = lab.converge(password=new, former_password=former)
    assert [(step["state"], step["action"], len(step["commands"])) for step in done["plan"]] == [
        ("S35", "password", 3),
        ("S35", "password", 6),
    ]
    hidden(done)
    lab.quiet(password=new, former_password=former)
    for server in lab.servers:
        server("ACL", "SETUSER", "default", "<" + former)
        server.password = new
        server("CLIENT", "KILL", "TYPE", "REPLICA")
    lab.wait(lab.settled, 30)
    lab.quiet(password=new)


# ---- certificates that change -----------------------------------------------------------------------------------------------


def reload(server: t.Any, folder: Path) -> None:
    """What the pods do by themselves: the same paths again make the server read the files again."""
    assert server("CONFIG", "SET", "tls-cert-file", str(folder / "tls.crt"), "tls-key-file", str(folder / "tls.key")) == "OK"


def reload_blind(server: t.Any, folder: Path) -> None:
    """The same, to a server whose certificate is not fit to be trusted any more."""
    trusting = ssl._create_unverified_context()
    wrapped = trusting.wrap_socket(_dial(server))
    name, password = "tester", "the-test-looks-with-this"
    wrapped.sendall(
        f"AUTH {name} {password}\r\nCONFIG SET tls-cert-file {folder / 'tls.crt'} tls-key-file {folder / 'tls.key'}\r\n".encode()
    )
    answer = b""
    while answer.count(b"+OK\r\n") < 2:
        answer += wrapped.recv(100)
    wrapped.close()


def test_a_certificate_is_renewed_without_a_restart_and_without_a_failure(secure: SecureLab, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(secrets()["application"][0])
    runs = {server.name: server("INFO", "server").split("run_id:")[1][:40] for server in secure.servers}
    before = {access.served(lambda server=server: _dial(server), 5) for server in secure.servers}  # type: ignore[misc]
    with Client(secure, file) as client:
        until(lambda: client.done > 20)
        pair = secure.certify([NAME], 90)
        for server in secure.servers:
            reload(server, secure.folder)
        # Links that stand go on with what they began with; new ones (and those cut here) meet the new certificate at both ends.
        for server in secure.servers:
            server("CLIENT", "KILL", "TYPE", "REPLICA")
        secure.wait(secure.settled, 30)
        seen = client.done
        until(lambda: client.done > seen + 40)
    after = {access.served(lambda server=server: _dial(server), 5) for server in secure.servers}  # type: ignore[misc]
    assert after == {pair.cert} and after != before
    assert (client.failed, client.errors) == (0, [])
    assert {server.name: server("INFO", "server").split("run_id:")[1][:40] for server in secure.servers} == runs
    assert secure.quiet()["state"] == "S4"


def until(condition: t.Callable[[], bool], timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the client stands still"
        time.sleep(0.05)
