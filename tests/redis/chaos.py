# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random damage in combination on real servers, and a shadow of the keys that says what may not be lost.

A case is a seed: a cluster is formed and filled, damaged one to six times, and the module is run, now and then after a run that was killed half way. It has
to heal, or to refuse with a reason. No key that a live node had a sound copy of may be lost either way. The same seed tries the same damages; what the
servers make of them depends on the moment, too.

A copy is sound while nothing that was done endangers it by the servers' own doing: a replica that follows an address to an emptied node empties itself, an
owner that is overruled by a higher epoch deletes the slot's keys. The module cannot be blamed for those, so the shadow gives them up.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import re
import shutil
import signal
import threading
import time
import typing as t
from collections.abc import Callable, Iterable

from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Entry
from ansible_collections.progressive.platform.plugins.module_utils._redis.observe import parse_info, parse_nodes
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import Connection, ConnectionLost, RawCommand, ReplyError
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.common import bad
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.tests.redis.lab import Lab, Server, own_entry

NODE_TIMEOUT = 1.0
PING, PONG = 0, 1
"""Packet types of the cluster bus that a node can be told to drop."""
PATIENCE, LONG_PATIENCE, IMPATIENCE = 9.0, 40.0, 3.0
"""Seconds for the module: where everything is back in time, the same where every wait may run to its end, and where something stays broken."""
HEARING_AT_MOST = 120.0
"""Seconds until nobody is suspected for a packet that was dropped."""
SLACK = 25.0
"""Seconds beyond its own timeout after which a run counts as endless (loading and copying have a limit of their own)."""
NEXT_COMMAND = re.compile(
    r"redis-cli|CLUSTER [A-Z]|allow_data_loss|allow_takeover|adopt_data|discard_data|forget_node_ids|recreate_replica|on_conflict|"
    r"Bring (it|those|that)|Open those ports|Add (it|nodes|one)|Give |Put |Look at |Compare |Keep one|Check |Raise |Save what|run again|seen \(S\d+\)"
)
NOTHING = "0" * 40
READERS = re.compile(r"INFO|PING|AUTH|FUNCTION LIST|CONFIG GET|CLUSTER (MYID|INFO|NODES|COUNTKEYSINSLOT|GETKEYSINSLOT)|MEMORY USAGE")


class Broken(AssertionError):
    """What the module may never do; the text is for the person who reads the seed."""


class Shadow:
    """What was written, and whose copy of it is sound."""

    def __init__(self, rng: random.Random) -> None:
        tags = [f"{{tag-{number}}}-{part}" for number in range(12) for part in range(8)]
        self.keys = tags + [f"key-{number}" for number in range(150)]
        self._kinds = {key: rng.choice(["string", "string", "hash", "list", "expiring"]) for key in self.keys}
        self.slots: dict[str, int] = {}
        self.digests: dict[str, str] = {}
        self.copies: dict[Server, set[str]] = {}

    def fill(self, lab: Lab) -> None:
        """Write everything, and wait until every replica has its share."""
        self.slots = dict(
            zip(self.keys, t.cast("list[int]", lab.servers[0].pipeline([("CLUSTER", "KEYSLOT", key) for key in self.keys])), strict=True)
        )
        for master in lab.masters():
            owned = own_entry(master).slots
            mine = [key for key in self.keys if owned >> self.slots[key] & 1]
            replies = master.pipeline([self._write(key) for key in mine])
            assert not [reply for reply in replies if isinstance(reply, ReplyError)], replies
            self.digests |= dict(zip(mine, self._digest(master, mine), strict=True))
            self.copies[master] = set(mine)
        for master in lab.masters():
            for replica in lab.replicas_of(master):
                self.copies[replica] = set(self.copies[master])
                lab.wait(lambda: self.held(replica) == self.copies[replica])  # noqa: B023
        assert len(self.digests) == len(self.keys)

    def _write(self, key: str) -> tuple[str, ...]:
        return {
            "string": ("SET", key, f"value of {key}"),
            "hash": ("HSET", key, "field", key, "other", "1"),
            "list": ("RPUSH", key, key, "2", "3"),
            "expiring": ("SET", key, f"value of {key}", "EX", "90000"),
        }[self._kinds[key]]

    @staticmethod
    def _digest(server: Server, keys: list[str]) -> list[str]:
        return t.cast("list[str]", server("DEBUG", "DIGEST-VALUE", *keys)) if keys else []

    def held(self, server: Server) -> set[str]:
        """Keys that are on a node with their values, whether it would serve them or not."""
        found = self._digest(server, self.keys)
        if isinstance(found, ReplyError):
            return set()
        return {key for key, digest in zip(self.keys, found, strict=True) if digest == self.digests.get(key, NOTHING) != NOTHING}

    def readable(self, masters: Iterable[Server]) -> set[str]:
        """Keys that a client reads from the owners of their slots."""
        found: set[str] = set()
        for master in masters:
            served = {
                key for key, reply in zip(self.keys, master.pipeline([("EXISTS", key) for key in self.keys]), strict=True) if reply == 1
            }
            found |= served & self.held(master)
        return found

    def give_up(self, server: Server, keys: Iterable[str] | None = None) -> None:
        """This node's copy is gone, or may go by what the servers do themselves."""
        self.copies[server] = self.copies.get(server, set()) - set(self.keys if keys is None else keys)

    def in_slots(self, numbers: Iterable[int]) -> set[str]:
        chosen = set(numbers)
        return {key for key in self.keys if self.slots[key] in chosen}

    def sound(self, servers: Iterable[Server]) -> set[str]:
        """What a live node has a sound copy of: both by what was done to it and by what is really there."""
        return {key for server in servers for key in self.copies.get(server, set()) & self.held(server)}


@dataclasses.dataclass
class Verdict:
    """``kind`` is healed or refused; ``then`` is how it went on once what had stayed broken was taken away."""

    kind: str
    state: str = ""
    text: str = ""
    then: Verdict | None = None
    seconds: float = 0.0

    def __str__(self) -> str:
        return (f"refused {self.state}" if self.kind == "refused" else "healed") + (f", then {self.then}" if self.then else "")


class Case:
    """One seed. ``story`` tells what was done, for the message of a failure."""

    def __init__(self, lab: Lab, seed: int, replicas: int | None = None, patience: float = PATIENCE) -> None:
        self.lab = lab
        self.seed = seed
        self.patience = patience
        self.rng = random.Random(seed)
        self.shadow = Shadow(self.rng)
        self.story: list[str] = []
        self.paused: set[Server] = set()
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.lasting: list[Callable[[], None]] = []
        self.last = False
        self.dropped = False
        usual = self.rng.choices([0, 1, 2], [1, 6, 1])[0]
        replicas = usual if replicas is None else replicas
        self.wanted = {"replicas_per_master": replicas}
        self.spare = lab.servers[3 * (1 + replicas) :]
        self.conf: dict[Server, bytes] = {}

    def run(self) -> Verdict:
        try:
            self.form()
            actions, weights = [action for _weight, action in DAMAGES], [weight for weight, _action in DAMAGES]
            chosen = self.rng.choices(actions, weights, k=self.rng.choices([1, 2, 3, 4, 6], [4, 3, 3, 2, 1])[0])
            for number, action in enumerate(chosen):
                self.last = number == len(chosen) - 1
                self.damage(action)
                time.sleep(self.rng.choice([0, 0.05, 0.3, 1.2 * NODE_TIMEOUT]))
            return self.judge(self.rng.choice([None, None, None, 0, 1, 2, 5, 20]))
        except Broken as error:
            raise Broken(f"{error}\n{self.told()}") from error
        finally:
            self.undo()
            self.lab.servers += [server for server in self.spare if server not in self.lab.servers]

    def told(self) -> str:
        damages = "\n".join(f"  {line}" for line in self.story)
        names = ", ".join(f"{server.name} is {server.directory.name}" for server in self.lab.servers)
        return (
            f"seed {self.seed}, damages:\n{damages}\n({names})\n"
            f"again: PROGRESSIVE_CHAOS_SEED={self.seed} PROGRESSIVE_CHAOS_CASES=1 PROGRESSIVE_CHAOS_PATIENCE={self.patience:g} pytest tests/redis/test_chaos.py"
        )

    def form(self) -> None:
        missing = 3 * (1 + self.wanted["replicas_per_master"]) - len(self.lab.servers)
        if missing > 0:
            self.lab.add(missing, **self.lab.servers[0].options)
        self.lab.servers = [server for server in self.lab.servers if server not in self.spare]
        self.lab.converge(**self.wanted)
        self.shadow.fill(self.lab)
        self.conf = {server: (server.directory / "nodes.conf").read_bytes() for server in self.lab.servers}

    def damage(self, action: Callable[[Case], str]) -> None:
        before = len(self.story)
        try:
            text = action(self)
        except (OSError, ConnectionLost) as error:
            text = f"stopped by {error}"
        if text:
            self.story.insert(before, f"{action.__name__}: {text}")

    def judge(self, killed_after: int | None = None) -> Verdict:
        """Run the module on what is there now; first, perhaps, one that is killed after so many of its writes."""
        self.forsake_contested()
        keep = self.shadow.sound(self.awake)
        patience = IMPATIENCE if self.lasting else self.patience
        self.foresee()
        if killed_after is not None:
            self.story.append(f"a run is killed after {killed_after} writes: {self.killed_run(killed_after)}")
        timers = [threading.Timer(seconds, undo) for seconds, undo in self.timers]
        self.timers.clear()
        for timer in timers:
            timer.start()
        try:
            verdict = self.attempt(patience, keep, timers)
        finally:
            for timer in timers:
                timer.join()
        if verdict.kind == "refused" and self.lasting:
            self.undo()
            verdict.then = self.attempt(self.patience, keep, [])
        self.consent(verdict.then or verdict, keep)
        return verdict

    def consent(self, verdict: Verdict, keep: set[str]) -> None:
        """Give a refusal the options that it asks for, until it heals or asks for nothing more. What may be lost then is nobody's to count."""
        given: dict[str, t.Any] = {}
        for _round in range(4):
            asked = asked_for(verdict.text) if verdict.kind == "refused" else {}
            before = dict(given)
            for option, value in asked.items():
                given[option] = sorted({*given.get(option, []), *value}) if isinstance(value, list) else value
            if given == before:
                return
            self.story.append(f"then with {given}")
            if given.keys() & {"allow_takeover", "discard_data"} or any(len(name) >= 16 for name in given.get("allow_data_loss", [])):
                keep = set()
            verdict.then = self.attempt(self.patience, keep, [], **given)
            verdict = verdict.then

    def foresee(self) -> None:
        """Check mode prints the plan to its end or refuses; it never changes anything and never fails in another way."""
        before = {server: server.writes() for server in self.awake}
        try:
            self.lab.converge(check=True, **self.wanted)
        except PlatformError:
            pass
        except Exception as error:
            raise Broken(f"check mode crashed: {error!r}") from error
        after = {server: server.writes() for server in self.awake}
        changed = {server.name: (before.get(server), now) for server, now in after.items() if before.get(server) != now}
        if changed and not any("during" in line for line in self.story):
            raise Broken(f"check mode wrote: {changed}")

    def killed_run(self, writes: int) -> str:
        """A run in a child that ends by SIGKILL at its n-th writing command, if it gets that far."""
        child = os.fork()
        if child == 0:
            ended = 1
            with contextlib.suppress(BaseException):
                die_after(writes)
                try:
                    self.lab.converge(timeout=1.0, load_timeout=1.0, **self.wanted)
                    ended = 0
                except PlatformError:
                    ended = 2
            os._exit(ended)
        _pid, status = os.waitpid(child, 0)
        if status == 1 << 8:
            raise Broken("the module crashed in the run that was to be killed")
        return {0: "it ended well before", 2 << 8: "it refused before"}.get(status, "killed")

    def attempt(self, patience: float, keep: set[str], timers: list[threading.Timer], **given: t.Any) -> Verdict:
        started = time.monotonic()
        try:
            result = self.lab.converge(timeout=patience, load_timeout=10.0, **self.wanted, **given)
        except PlatformError as error:
            seconds = time.monotonic() - started
            state = str(error.details.get("state", "none"))
            self.story.append(f"after {seconds:.1f} s refused {state}: {error.message}")
            verdict = Verdict("refused", state, error.message, seconds=seconds)
        except Exception as error:
            raise Broken(f"the module crashed: {error!r}") from error
        else:
            seconds = time.monotonic() - started
            plan = ", ".join(f"{step['state']} {step['action']}" for step in result["plan"])
            self.story.append(f"after {seconds:.1f} s healed: {plan}")
            verdict = Verdict("healed", seconds=seconds)
        for timer in timers:
            timer.join()
        if seconds > patience + SLACK:
            raise Broken(f"the run took {seconds:.0f} s with a timeout of {patience:.0f} s")
        self.check_keys(keep)
        if verdict.kind == "healed":
            self.recover_hearing()
            self.check_healed(keep, **given)
        elif not NEXT_COMMAND.search(verdict.text) or not re.fullmatch(r"S\d+", verdict.state):
            raise Broken(f"the refusal names no state or no next command: {verdict.state} {verdict.text}")
        return verdict

    def check_keys(self, keep: set[str]) -> None:
        there = set().union(*(self.shadow.held(server) for server in self.awake))
        gone = keep - there
        if gone:
            raise Broken(f"{len(gone)} keys are lost, of slots {slots.text(slots.mask((self.shadow.slots[key],) * 2 for key in gone))}")

    def check_healed(self, keep: set[str], **given: t.Any) -> None:
        if not self.lab.settled():
            raise Broken(
                "it says healed, and the cluster is not settled:\n"
                + "\n".join(f"{server.name}\n{server('CLUSTER', 'NODES')}" for server in self.awake)
            )
        hidden = keep - self.shadow.readable(self.lab.masters())
        if hidden:
            places = {server.name: len(hidden & self.shadow.held(server)) for server in self.awake}
            raise Broken(f"it says healed, and {len(hidden)} keys cannot be read; copies of them: {places}")
        try:
            self.lab.quiet(**self.wanted, **given)
        except AssertionError as error:
            replication = "\n".join(f"{server.name} {parse_info(str(server('INFO', 'replication')))}" for server in self.awake)
            raise Broken(f"a second run is not quiet: {error}\n{replication}") from error
        except PlatformError as error:
            raise Broken(f"a second run refuses what the first one healed: {error.message}") from error

    def undo(self) -> None:
        for step in (*(undo for _seconds, undo in self.timers), *self.lasting):
            with contextlib.suppress(OSError, ConnectionLost):
                step()
        self.timers.clear()
        self.lasting.clear()

    def recover_hearing(self) -> None:
        """Wait for suspicions that a dropped ping left behind.

        Nobody sends it again: a server asks a node anew only when it was answered or its link was made anew, and it keeps the link as long as anything
        else arrives from that node (``data_received`` in ``clusterCron``; a suspicion of 41 s was seen). On a network without that filter TCP repeats it.
        """
        deadline = time.monotonic() + HEARING_AT_MOST
        while self.dropped and time.monotonic() < deadline and self._suspicious():
            time.sleep(0.1)

    def _suspicious(self) -> bool:
        return any(bad(entry) for server in self.awake for entry in entries(server).values())

    # What the damages are made of.

    @property
    def awake(self) -> list[Server]:
        return [server for server in self.lab.servers if server.process is not None and server not in self.paused]

    @property
    def masters(self) -> list[Server]:
        return [server for server in self.awake if own_entry(server).slots]

    @property
    def replicas(self) -> list[Server]:
        return [server for server in self.awake if own_entry(server).master]

    def followers(self, master: Server) -> list[Server]:
        node_id = master.id()
        return [server for server in self.awake if own_entry(server).master == node_id]

    def any_of(self, servers: list[Server]) -> Server | None:
        return self.rng.choice(servers) if servers else None

    def some_of(self, servers: list[Server]) -> list[Server]:
        return self.rng.sample(servers, self.rng.randint(1, len(servers))) if servers else []

    def lift(self, what: str, undo: Callable[[], None]) -> str:
        """Take a damage away again: before the run, in the middle of it, or only after its verdict."""
        seconds = self.rng.choice([0.3, 1.5, 3.0]) * NODE_TIMEOUT
        when = self.rng.choices(["before", "during", "never"], [6, 3, 1])[0]
        if when == "before":
            time.sleep(seconds)
            undo()
            return f"{what} for {seconds:.1f} s"
        if when == "during":
            self.timers.append((seconds, undo))
            return f"{what} until {seconds:.1f} s into the run (during)"
        self.lasting.append(undo)
        return f"{what} for the whole run"

    def unattended(self, server: Server) -> None:
        """The node will be away for a while. If a replica of it has not all it has, an election may make that one the owner: no copy of ours is sure then."""
        followers = self.followers(server)
        if any(not self.shadow.held(server) <= self.shadow.held(follower) for follower in followers):
            for one in (server, *followers):
                self.shadow.give_up(one)

    def misled(self, address: Server, node_id: str) -> None:
        """The replicas of this ID follow its address to a node with other data, and take those."""
        for server in self.awake:
            if server is not address and own_entry(server).master == node_id:
                self.shadow.give_up(server)

    def forsake_contested(self) -> None:
        """Owners that their peers suspect at this moment may be succeeded by a replica that has less."""
        views = {server: parse_nodes(str(server("CLUSTER", "NODES"))) for server in self.awake}
        for server in self.awake:
            node_id = server.id()
            if any(entry.suspected or entry.failed for view in views.values() if (entry := view.get(node_id)) is not None):
                self.unattended(server)


def asked_for(text: str) -> dict[str, t.Any]:
    """Options that a refusal names, with the values it names."""
    asked: dict[str, t.Any] = {}
    for option in ("allow_data_loss", "adopt_data", "discard_data", "forget_node_ids"):
        found = re.search(rf"{option}(?:: \[| \()([^\])]+)[\])]", text)
        if found:
            asked[option] = [part.strip(" '") for part in re.split(r", (?=[0-9a-f]{40}|')", found[1])]
    if "adopt_data" in asked:
        asked.pop("discard_data", None)
    if "allow_takeover: true" in text:
        asked["allow_takeover"] = True
    if "on_conflict: owner" in text:
        asked["on_conflict"] = "owner"
    return asked


def die_after(writes: int) -> None:
    """This process kills itself once that many commands that may write have been answered."""
    original = Connection.send
    sent = 0

    def send(self: Connection, commands: t.Sequence[RawCommand], deadline: float) -> None:
        nonlocal sent
        for position, command in enumerate(commands):
            if not READERS.match(" ".join(str(part) for part in command[:2])):
                sent += 1
                if sent > writes:
                    original(self, commands[:position], deadline)
                    self.receive(position, deadline)
                    os.kill(os.getpid(), signal.SIGKILL)
        original(self, commands, deadline)

    Connection.send = send  # type: ignore[method-assign]


DAMAGES: list[tuple[int, Callable[[Case], str]]] = []


def damage(weight: int) -> Callable[[Callable[[Case], str]], Callable[[Case], str]]:
    """Register a damage; it returns what it did, or nothing when there was nothing to be done."""

    def register(action: Callable[[Case], str]) -> Callable[[Case], str]:
        DAMAGES.append((weight, action))
        return action

    return register


@damage(4)
def killed(case: Case) -> str:
    server = case.any_of(case.awake)
    if server is None:
        return ""
    case.unattended(server)
    server.kill()
    return case.lift(f"{server.name}", lambda: back(server))


@damage(2)
def several_killed(case: Case) -> str:
    chosen = case.some_of(case.awake)
    for server in chosen:
        case.unattended(server)
    for server in chosen:
        server.kill()

    def all_back() -> None:
        for server in chosen:
            back(server)

    return case.lift(", ".join(server.name for server in chosen), all_back)


def back(server: Server) -> None:
    """Started, and its data loaded."""
    if server.process is None:
        server.launch()
    server.ready()
    deadline = time.monotonic() + 20
    while server("PING") != "PONG":
        assert time.monotonic() < deadline, f"{server.name} does not come up"
        time.sleep(0.01)


@damage(4)
def wiped(case: Case) -> str:
    """The volume is gone; the node comes back where it was, or elsewhere."""
    server = case.any_of(case.awake)
    if server is None:
        return ""
    node_id, name = server.id(), server.name
    in_place = case.rng.random() < 0.4
    case.unattended(server)
    server.kill()
    server.wipe()
    case.shadow.give_up(server)
    if in_place:
        case.misled(server, node_id)
    else:
        server.renumber()
    pause = case.rng.choice([0, 0.3, 3.0]) * NODE_TIMEOUT
    time.sleep(pause)
    back(server)
    return f"{name} comes back as {server.name} after {pause:.1f} s"


@damage(3)
def forgotten_itself(case: Case) -> str:
    """Only nodes.conf is gone; the data are there, under another ID."""
    server = case.any_of(case.awake)
    if server is None:
        return ""
    name = server.name
    case.unattended(server)
    server.kill()
    (server.directory / "nodes.conf").unlink()
    if case.rng.random() < 0.5:
        server.renumber()
    back(server)
    return f"{name} comes back as {server.name} with its data"


@damage(2)
def lost_data(case: Case) -> str:
    """The other way round: it remembers the cluster, and its data are gone."""
    server = case.any_of(case.awake)
    if server is None:
        return ""
    node_id = server.id()
    case.unattended(server)
    server.kill()
    shutil.rmtree(server.directory / "appendonlydir", ignore_errors=True)
    case.shadow.give_up(server)
    case.misled(server, node_id)
    back(server)
    return server.name


@damage(4)
def renumbered(case: Case) -> str:
    chosen = case.awake if case.rng.random() < 0.3 else case.some_of(case.awake)
    names = [server.name for server in chosen]
    for server in chosen:
        case.unattended(server)
    for server in chosen:
        server.kill()
        server.renumber()
    for server in chosen:
        back(server)
    return ", ".join(f"{name} is {server.name}" for name, server in zip(names, chosen, strict=True))


@damage(2)
def swapped(case: Case) -> str:
    """Each at the other's address: recycled pod IPs."""
    if len(case.awake) < 2:
        return ""
    one, other = case.rng.sample(case.awake, 2)
    ids = (one.id(), other.id())
    for server in (one, other):
        case.unattended(server)
    one.kill()
    other.kill()
    one.port, other.port = other.port, one.port
    for node_id in ids:
        for server in case.awake:
            if own_entry(server).master == node_id:
                case.shadow.give_up(server)
    for server in (one, other):
        back(server)
    return f"{one.name} and {other.name}"


@damage(1)
def cloned(case: Case) -> str:
    """A volume was copied: two nodes with one ID, the second without data."""
    if len(case.awake) < 2:
        return ""
    model, copy = case.rng.sample(case.awake, 2)
    for node_id in (model.id(), copy.id()):
        case.misled(copy, node_id)
    case.unattended(copy)
    case.unattended(model)
    copy.kill()
    copy.wipe()
    case.shadow.give_up(copy)
    shutil.copy(model.directory / "nodes.conf", copy.directory / "nodes.conf")
    back(copy)
    return f"{copy.name} has the identity of {model.name}"


@damage(2)
def set_back(case: Case) -> str:
    """nodes.conf comes from a backup: roles, epochs and addresses of when the cluster was new."""
    server = case.any_of(case.awake)
    if server is None or server not in case.conf:
        return ""
    case.unattended(server)
    server.kill()
    (server.directory / "nodes.conf").write_bytes(case.conf[server])
    own = next(entry for entry in parse_nodes(case.conf[server].decode()).values() if "myself" in entry.flags)
    if own.master:  # whatever it has become since, it copies that one again
        case.shadow.give_up(server)
    back(server)
    return f"{server.name} is {'a replica' if own.master else 'a master'} again"


@damage(1)
def stranger_met(case: Case) -> str:
    """A node that is not ours becomes a member."""
    member = case.any_of(case.awake)
    if not case.spare or member is None:
        return ""
    stranger = case.spare[0]
    reply = member("CLUSTER", "MEET", stranger.host, stranger.port)
    return f"{stranger.name} by {member.name}: {reply}"


@damage(4)
def forgotten(case: Case) -> str:
    victim = case.any_of(case.awake)
    others = case.some_of([server for server in case.awake if server is not victim])
    if victim is None or not others:
        return ""
    replies = {server.name: str(server("CLUSTER", "FORGET", victim.id())) for server in others}
    return f"{victim.name} by {replies}"


@damage(4)
def slots_dropped(case: Case) -> str:
    """By their owner, by others' views, or both."""
    owner = case.any_of(case.masters)
    if owner is None:
        return ""
    chosen = piece(case, own_entry(owner).slots)
    viewers = case.rng.choice([[owner], case.masters, case.some_of(case.masters)])
    replies = {viewer.name: str(viewer("CLUSTER", "DELSLOTS", *chosen)) for viewer in viewers}
    return f"{slots.text(slots.mask((slot, slot) for slot in chosen))} of {owner.name} at {replies}"


@damage(3)
def slots_claimed(case: Case) -> str:
    """Another master calls an owner's slots its own."""
    if len(case.masters) < 2:
        return ""
    owner, claimer = case.rng.sample(case.masters, 2)
    mine, theirs = own_entry(owner), own_entry(claimer)
    chosen = piece(case, mine.slots)
    claimer("CLUSTER", "DELSLOTS", *chosen)
    reply = claimer("CLUSTER", "ADDSLOTS", *chosen)
    text = f"{slots.text(slots.mask((slot, slot) for slot in chosen))} of {owner.name} by {claimer.name} (epochs {mine.epoch}, {theirs.epoch}): {reply}"
    contested = theirs.epoch >= mine.epoch
    if not contested and not case.last:
        time.sleep(0.5)
        contested = bool(own_entry(claimer).slots & slots.mask((slot, slot) for slot in chosen))
    if contested:
        for server in (owner, *case.followers(owner)):
            case.shadow.give_up(server, case.shadow.in_slots(chosen))
    return text


@damage(6)
def half_moved(case: Case) -> str:
    """A migration that somebody gave up at one of its steps."""
    if len(case.masters) < 2:
        return ""
    source, target = case.rng.sample(case.masters, 2)
    told = []
    for slot in piece(case, own_entry(source).slots)[: case.rng.choice([1, 2, 12])]:
        step = case.rng.choice(["importing", "migrating", "both", "some keys", "some keys", "all keys", "closed at the target", "conflict"])
        if step != "migrating":
            target("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id())
        if step != "importing":
            source("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id())
        keys = t.cast("list[str]", source("CLUSTER", "GETKEYSINSLOT", slot, 1000))
        if step == "some keys":
            keys = keys[: len(keys) // 2]
        moved = 0
        if step in {"some keys", "all keys", "closed at the target"} and keys:
            followers = (case.followers(source), case.followers(target))
            if source("MIGRATE", target.host, target.port, "", 0, 5000, "KEYS", *keys) == "OK":
                moved = len(keys)
                for server in (source, *followers[0]):
                    case.shadow.give_up(server, keys)
                for server in (target, *followers[1]):
                    case.shadow.copies.setdefault(server, set()).update(keys)
        if step == "conflict":  # the importer has other values: nobody may choose between them unasked
            replies = target.pipeline([part for key in keys for part in (("ASKING",), ("SET", key, "another value"))])
            moved = replies.count("OK") - len(keys)
        if step == "closed at the target" and moved == len(keys):
            target("CLUSTER", "SETSLOT", slot, "NODE", target.id())
        told.append(f"{slot}: {step} ({moved} of {len(keys)} keys)")
    return f"{source.name} -> {target.name}: {'; '.join(told)}"


@damage(2)
def slots_misassigned(case: Case) -> str:
    """One view names another owner."""
    if len(case.masters) < 3:
        return ""
    owner, viewer, wrong = case.rng.sample(case.masters, 3)
    chosen = piece(case, own_entry(owner).slots)
    replies = {str(viewer("CLUSTER", "SETSLOT", slot, "NODE", wrong.id())) for slot in chosen}
    return f"{slots.text(slots.mask((slot, slot) for slot in chosen))} of {owner.name} is {wrong.name}'s at {viewer.name}: {replies}"


@damage(3)
def reset(case: Case) -> str:
    """A replica is alone and empty again; a master with keys refuses it."""
    server = case.any_of(case.awake)
    if server is None:
        return ""
    how = case.rng.choice(["SOFT", "HARD"])
    reply = server("CLUSTER", "RESET", how)
    if reply == "OK":
        case.shadow.give_up(server)
    return f"{server.name} {how}: {reply}"


@damage(3)
def rehung(case: Case) -> str:
    """A replica follows another master."""
    replica = case.any_of(case.replicas)
    master = case.any_of(case.masters)
    if replica is None or master is None:
        return ""
    reply = replica("CLUSTER", "REPLICATE", master.id())
    if reply == "OK":
        case.shadow.give_up(replica)
    return f"{replica.name} to {master.name}: {reply}"


@damage(3)
def failed_over(case: Case) -> str:
    """To a replica that has everything."""
    pairs = [
        (master, replica)
        for master in case.masters
        for replica in case.followers(master)
        if case.shadow.held(master) <= case.shadow.held(replica)
    ]
    if not pairs:
        return ""
    master, replica = case.rng.choice(pairs)
    how = case.rng.choice([(), ("FORCE",), ("TAKEOVER",)])
    case.unattended(master)
    return f"{replica.name} {' '.join(how)}: {replica('CLUSTER', 'FAILOVER', *how)}"


@damage(3)
def hung(case: Case) -> str:
    """SIGSTOP."""
    server = case.any_of(case.awake)
    if server is None:
        return ""
    case.unattended(server)
    server.pause()
    case.paused.add(server)

    def resume() -> None:
        case.paused.discard(server)
        if server.process is not None:
            server.resume()

    return case.lift(server.name, resume)


@damage(4)
def deaf(case: Case) -> str:
    """A partition in one direction: some nodes drop every ping, or every answer to theirs."""
    chosen = case.some_of(case.awake)[: case.rng.choice([1, 1, 2, 6])]
    packet = case.rng.choice([PING, PONG])
    for server in chosen:
        case.unattended(server)
    case.dropped = True
    for server in chosen:
        server("DEBUG", "DROP-CLUSTER-PACKET-FILTER", packet)

    def hear() -> None:
        for server in chosen:
            if server.process is not None:
                server("DEBUG", "DROP-CLUSTER-PACKET-FILTER", -1)

    return case.lift(f"{', '.join(server.name for server in chosen)} to {'pings' if packet == PING else 'pongs'}", hear)


@damage(2)
def links_cut(case: Case) -> str:
    """Replication begins anew, with a full copy."""
    server = case.any_of(case.masters)
    if server is None:
        return ""
    server("DEBUG", "CHANGE-REPL-ID")
    return f"{server.name}: {server('CLIENT', 'KILL', 'TYPE', 'replica')}"


@damage(2)
def bumped(case: Case) -> str:
    replies = {server.name: str(server("CLUSTER", "BUMPEPOCH")) for server in case.some_of(case.masters)}
    return str(replies) if replies else ""


@damage(1)
def function_loaded(case: Case) -> str:
    server = case.any_of(case.masters)
    if server is None:
        return ""
    name = f"lib{case.rng.randrange(1000)}"
    code = f"#!lua name={name}\nredis.register_function('{name}', function(keys, args) return 1 end)"
    return f"{server.name}: {server('FUNCTION', 'LOAD', code)}"


@damage(1)
def locked(case: Case) -> str:
    """Another password on some nodes."""
    chosen = case.some_of(case.awake)
    for server in chosen:
        server("CONFIG", "SET", "requirepass", "another-one")
        server.password = "another-one"

    def unlock() -> None:
        for server in chosen:
            if server.process is not None and server.password:
                server("CONFIG", "SET", "requirepass", "")
            server.password = ""

    case.lasting.append(unlock)
    return f"another password on {', '.join(server.name for server in chosen)}"


def piece(case: Case, owned: int) -> list[int]:
    """Slots of an owner, most of them with keys: one, a few, a run of many, or all."""
    numbers = slots.numbers(owned)
    with_keys = sorted({slot for slot in case.shadow.slots.values() if owned >> slot & 1})
    size = case.rng.choice([1, 3, 12, 400, len(numbers)])
    if size <= 12 and with_keys:
        return case.rng.sample(with_keys, min(size, len(with_keys)))
    start = case.rng.randrange(len(numbers))
    return numbers[start : start + size]


def entries(server: Server) -> dict[str, Entry]:
    return parse_nodes(str(server("CLUSTER", "NODES")))
