# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backup, restore and drill between real servers: what was backed up is there afterwards, and everything that could go wrong is said before it does."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._backup import storage
from ansible_collections.progressive.platform.plugins.module_utils._redis import backup, refill, restore
from ansible_collections.progressive.platform.plugins.module_utils._redis.observe import parse_info
from ansible_collections.progressive.platform.plugins.module_utils._redis.rdb import slot_of
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError, Result
from ansible_collections.progressive.platform.tests.redis.lab import Lab, Server, arguments, own_entry
from ansible_collections.progressive.platform.tests.unit.backup import s3
from ansible_collections.progressive.platform.tests.unit.backup.s3 import SECRET, emptied

LIBRARY = "#!lua name=shop\nredis.register_function('price', function(keys, args) return 7 end)"
simulator = s3.simulator
Raw: t.TypeAlias = "tuple[str | bytes, ...]"


@pytest.fixture(scope="module")
def spare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Five more servers, to restore into."""
    lab = Lab(tmp_path_factory.mktemp("spare"))
    try:
        lab.add(5)
        yield lab
    finally:
        lab.stop()


@pytest.fixture
def target(spare: Lab, lab: Lab) -> Iterator[Lab]:
    yield spare
    spare.restore(5)


@pytest.fixture
def place(tmp_path: Path) -> dict[str, t.Any]:
    return {"path": str(tmp_path / "backups"), "s3": None, "spool": None}


def form(lab: Lab, masters: int) -> Lab:
    """The first servers as masters of equal shares; the lab is reduced to them."""
    chosen = Lab(lab.directory)
    chosen.servers = lab.servers[:masters]
    chosen.meet(*chosen.servers)
    for number, server in enumerate(chosen.servers):
        server("CLUSTER", "ADDSLOTSRANGE", number * 16384 // masters, (number + 1) * 16384 // masters - 1)
    chosen.wait(chosen.settled)
    return chosen


def take(lab: Lab, place: dict[str, t.Any], check: bool = False, **params: t.Any) -> Result:
    return backup.run(arguments(backup.ARGUMENTS, {"addresses": lab.addresses, "storage": place, **params}), Context(check=check))


def put(lab: Lab, place: dict[str, t.Any], check: bool = False, **params: t.Any) -> Result:
    return restore.run(arguments(restore.ARGUMENTS, {"addresses": lab.addresses, "storage": place, **params}), Context(check=check))


def send(lab: Lab, *commands: Raw) -> list[t.Any]:
    """Every command to the master that owns its key's slot."""
    replies = []
    masters = [(server, entry) for server in lab.masters() for entry in [own_slots(server)]]
    for command in commands:
        key = command[1] if isinstance(command[1], bytes) else command[1].encode()
        server = next(server for server, mask in masters if mask >> slot_of(key) & 1)
        replies.append(server.pipeline([t.cast("tuple[str, ...]", command)])[0])
    return replies


def own_slots(server: Server) -> int:
    return own_entry(server).slots


def everything() -> list[Raw]:
    """Every type in every encoding that a server of this version writes, keys and values that are no text, expiries near and far."""
    many = [str(number) for number in range(600)]
    commands: list[Raw] = [
        ("SET", "text", "plain"),
        ("SET", "empty", ""),
        ("SET", "number", "-70000"),
        ("SET", b"\x00\xff\r\nkey", b"\x00\x80\xff\r\n"),
        ("SET", b"{tag\xfe}1", "x" * 5000),
        ("SET", "{}", "an empty tag is none"),
        ("SET", "soon", "gone", "PX", "3600000"),
        ("SET", "at", "x", "PXAT", "4102444800123"),
        ("RPUSH", "list", "a", "1", "-5", "x" * 300),
        ("RPUSH", "nodes", *[f"{number}-{'y' * 100}" for number in range(500)]),
        ("RPUSH", "big", "z" * 20000),
        ("SADD", "intset", "1", "70000", "-9999999999"),
        ("SADD", "set", *[f"member-{number}" for number in many]),
        ("HSET", "small", "a", "1", "b", "-4096", "c", "4095", "d", "99999999999", "e", "x" * 60),
        ("HSET", "hash", *[part for number in many for part in (f"f{number}", f"v{number}")]),
        ("ZADD", "zsmall", "1.5", "a", "-inf", "b", "3", "c"),
        ("ZADD", "zset", *[part for number in many for part in (f"{int(number) / 7}", f"m{number}")]),
        ("PFADD", "hll", *many),
        ("SETBIT", "bits", "100000", "1"),
        ("GEOADD", "geo", "13.36", "38.11", "Palermo"),
        *[("XADD", "stream", f"{number}-1", "field", f"value {number}") for number in range(1, 300)],
        ("XGROUP", "CREATE", "stream", "readers", "0"),
        *[("SET", f"key-{number}", f"value-{number}") for number in range(2000)],
    ]
    return commands


def fill(lab: Lab) -> None:
    assert not [
        reply for reply in send(lab, *[command for command in everything() if command[0] != "XGROUP"]) if str(reply).startswith("ERR")
    ]
    stream = next(server for server in lab.masters() if own_slots(server) >> slot_of(b"stream") & 1)
    assert stream("XGROUP", "CREATE", "stream", "readers", "0") == "OK"
    assert len(stream("XREADGROUP", "GROUP", "readers", "one", "COUNT", "7", "STREAMS", "stream", ">")[0][1]) == 7
    for master in lab.masters():
        assert master("FUNCTION", "LOAD", "REPLACE", LIBRARY) == "shop"
    assert sum(int(master("DBSIZE")) for master in lab.masters()) == 2021
    lab.wait(lambda: all(offsets(server) for server in lab.masters()))


def offsets(master: Server) -> bool:
    """Whether every replica has everything."""
    info = parse_info(str(master("INFO", "replication")))
    return all(
        f"offset={info['master_repl_offset']}," in value for name, value in info.items() if name.startswith("slave") and name[5:].isdigit()
    )


def digests(lab: Lab) -> dict[str, tuple[str, int]]:
    """The servers' own digest of every key, with its expiry."""
    found = {}
    for master in lab.masters():
        keys = master("KEYS", "*")
        replies = master.pipeline([command for key in keys for command in (("DEBUG", "DIGEST-VALUE", key), ("PEXPIRETIME", key))])
        found |= {key: (digest[0], expires) for key, digest, expires in zip(keys, replies[::2], replies[1::2], strict=True)}  # type: ignore[index]
    return found  # type: ignore[return-value]


def test_takes_replicas_and_restores_into_another_number_of_masters(lab: Lab, target: Lab, place: dict[str, t.Any]) -> None:
    lab.converge()
    fill(lab)
    foreseen = take(lab, place, check=True)
    assert foreseen["changed"] and not Path(place["path"]).exists()
    result = take(lab, place)
    assert result["plan"] == foreseen["plan"] and [item["role"] for item in result["plan"]] == ["replica"] * 3 and result["warnings"] == []
    assert result["backup"]["keys"] == 2021 and result["backup"]["shards"] == 3
    manifest = json.loads((Path(place["path"]) / result["backup"]["folder"] / "manifest.json").read_text())
    assert [shard["functions"] for shard in manifest["facts"]["shards"]] == [["shop"]] * 3
    for file in manifest["files"]:
        path = Path(place["path"]) / result["backup"]["folder"] / file["name"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"] and path.stat().st_mode & 0o077 == 0

    five = form(target, 5)
    before = digests(five)
    planned = put(five, place, check=True)
    assert planned["changed"] and len(planned["plan"]) == 5 and digests(five) == before == {}
    done = put(five, place)
    assert done["changed"] and done["restored"]["restored"] == 2021 and done["compared"]["equal"] == 2021 and done["functions"] == 5
    assert digests(five) == digests(lab)
    assert all(server("FCALL", "price", 0) == 7 for server in five.servers)
    for server in five.servers:
        server("CONFIG", "RESETSTAT")
    again = put(five, place)
    assert [server.writes() for server in five.servers] == [{}] * 5
    assert all("cmdstat_restore" not in server("INFO", "commandstats") for server in five.servers)
    assert again["changed"] is False and "was restored into this cluster" in again["msg"]
    assert put(five, place, mode="compare")["compared"]["equal"] == 2021


def test_restores_into_the_same_number(lab: Lab, target: Lab, place: dict[str, t.Any]) -> None:
    """And a shard without a key is a file like the others."""
    source = form(lab, 3)
    send(source, *[("SET", "{one slot}" + str(number), str(number)) for number in range(50)])
    result = take(source, place)
    assert all("have no replica in sync" in text for text in result["warnings"]) and len(result["warnings"]) == 3
    manifest = json.loads((Path(place["path"]) / result["backup"]["folder"] / "manifest.json").read_text())
    assert sorted(shard["keys"] for shard in manifest["facts"]["shards"]) == [0, 0, 50]
    three = form(target, 3)
    assert put(three, place)["restored"]["restored"] == 50
    assert digests(three) == digests(source)


def test_through_s3(lab: Lab, simulator: str) -> None:
    place = emptied(simulator)
    source = form(lab, 3)
    fill(source)
    before = digests(source)
    result = take(source, place)
    for server in source.servers:
        assert server.pipeline([("FLUSHALL",), ("FUNCTION", "FLUSH")]) == ["OK", "OK"]
    done = put(source, place)
    assert done["compared"]["equal"] == 2021 and digests(source) == before
    assert SECRET not in json.dumps([result, done])


@pytest.mark.parametrize("files", [0, 1, 3])
def test_a_killed_backup_is_none(lab: Lab, place: dict[str, t.Any], files: int) -> None:
    """Killed when that many of its files are in their place; the fourth is the manifest."""
    source = form(lab, 3)
    child = os.fork()
    if child == 0:
        original = storage.Directory.upload
        kept = 0

        def upload(self: storage.Directory, name: str, path: Path) -> None:
            nonlocal kept
            if kept == files:
                os.kill(os.getpid(), signal.SIGKILL)
            kept += 1
            original(self, name, path)

        storage.Directory.upload = upload  # type: ignore[method-assign]
        try:
            take(source, place)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert len(list(Path(place["path"]).glob("redis_cluster/*/*/shard-*.rdb"))) == files
    with pytest.raises(PlatformError, match="there is no complete backup"):
        put(source, place, mode="compare")
    identifier = take(source, place)["backup"]["id"]
    assert put(source, place, mode="compare")["backup"]["id"] == identifier


def test_what_was_confirmed_before_it_began_is_in_it(lab: Lab, target: Lab, place: dict[str, t.Any]) -> None:
    """A writer never stops; of every shard the backup has all keys up to some moment, and none after it."""
    lab.converge()
    masters = {server.name: (server, own_slots(server)) for server in lab.masters()}
    names = {
        name: [key for key in (f"w{number}" for number in range(60000)) if mask >> slot_of(key.encode()) & 1]
        for name, (_s, mask) in masters.items()
    }
    confirmed = dict.fromkeys(masters, 0)
    stop = threading.Event()

    def write(name: str) -> None:
        server = masters[name][0]
        while not stop.is_set() and confirmed[name] + 20 < len(names[name]):
            batch = names[name][confirmed[name] : confirmed[name] + 20]
            assert server.pipeline([("SET", key, key) for key in batch] + [("WAIT", "1", "1000")])[-1] == 1
            confirmed[name] += 20

    threads = [threading.Thread(target=write, args=(name,)) for name in masters]
    for thread in threads:
        thread.start()
    try:
        lab.wait(lambda: all(count > 100 for count in confirmed.values()))
        before = dict(confirmed)
        result = take(lab, place)
        after = dict(confirmed)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert all(after[name] > before[name] for name in masters), "nothing was written while the backup was taken"
    assert result["backup"]["keys"] >= sum(before.values())
    three = form(target, 3)
    put(three, place)
    held = set(digests(three))
    for name, keys in names.items():
        present = [key in held for key in keys]
        count = sum(present)
        assert all(present[:count]) and before[name] <= count <= len(keys)


def test_time_goes_on_between_backup_and_restore(lab: Lab, target: Lab, place: dict[str, t.Any]) -> None:
    source = form(lab, 3)
    send(source, ("SET", "short", "x", "PX", "4000"), ("SET", "long", "x", "PX", "4000000"), ("SET", "ever", "x"))
    assert take(source, place)["backup"]["keys"] == 3
    source.wait(lambda: send(source, ("EXISTS", "short")) == [0])
    three = form(target, 3)
    done = put(three, place)
    assert done["restored"]["restored"] == 2 and done["restored"]["expired"] == 1
    assert digests(three) == {key: value for key, value in digests(source).items() if key in {"long", "ever"}}


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes({"flip": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :], "cut": data[:-40], "none": b""}[how])


@pytest.mark.parametrize(
    ("how", "text"), [("flip", "SHA-256 is not the one"), ("cut", "bytes, .* were written"), ("none", "it has 0 bytes")]
)
def test_a_damaged_file_is_named_before_anything_is_changed(lab: Lab, place: dict[str, t.Any], how: str, text: str) -> None:
    source = form(lab, 3)
    send(source, *[("SET", f"key-{number}", "x" * 50) for number in range(100)])
    folder = Path(place["path"]) / take(source, place)["backup"]["folder"]
    damage(folder / "shard-1.rdb", how)
    for server in source.servers:
        server("FLUSHALL")
        server("CONFIG", "RESETSTAT")
    for check in (True, False):
        with pytest.raises(PlatformError, match=rf"shard-1.rdb of backup .* is damaged.*{text}"):
            put(source, place, check=check)
    assert digests(source) == {} and all("cmdstat_restore" not in server("INFO", "commandstats") for server in source.servers)


def test_a_file_that_was_cut_off_before_its_checksum_was_made(lab: Lab, place: dict[str, t.Any]) -> None:
    source = form(lab, 3)
    send(source, *[("SET", f"key-{number}", "x") for number in range(100)])
    folder = Path(place["path"]) / take(source, place)["backup"]["folder"]
    damage(folder / "shard-2.rdb", "cut")
    manifest = json.loads((folder / "manifest.json").read_text())
    data = (folder / "shard-2.rdb").read_bytes()
    manifest["files"][2] |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PlatformError, match=r"shard-2.rdb is cut off"):
        put(source, place)
    (folder / "manifest.json").write_text('{"format": 1, "files": [')
    with pytest.raises(PlatformError, match=r"manifest .* is damaged"):
        put(source, place)
    (folder / "manifest.json").unlink()
    with pytest.raises(PlatformError, match=r"there is no complete backup; complete ones: none"):
        put(source, place)


def killed(lab: Lab, place: dict[str, t.Any], pipelines: int) -> None:
    """A restore in a child that is killed after that many pipelines have been answered."""
    child = os.fork()
    if child == 0:
        original = refill._Lane.settle
        counted = 0

        def settle(self: refill._Lane, take: t.Any) -> None:
            nonlocal counted
            original(self, take)
            counted += 1
            if counted > pipelines:
                os.kill(os.getpid(), signal.SIGKILL)

        refill._Lane.settle = settle  # type: ignore[method-assign]
        try:
            put(lab, place)
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


@pytest.mark.parametrize("pipelines", [0, 3, 20])
def test_a_killed_restore_is_gone_on_with(
    lab: Lab, target: Lab, place: dict[str, t.Any], pipelines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refill, "BATCH_KEYS", 50)
    source = form(lab, 3)
    for master in source.servers:
        master("FUNCTION", "LOAD", LIBRARY)
    send(source, *[("SET", f"key-{number}", f"value-{number}") for number in range(3000)])
    first = take(source, place)["backup"]["id"]
    five = form(target, 5)
    killed(five, place, pipelines)
    assert len(digests(five)) < 3000
    send(source, ("SET", "later", "x"))
    second = take(source, place)["backup"]["id"]
    with pytest.raises(PlatformError, match=rf"not empty.*A restore of redis_cluster/redis-cluster/{first}.*was not finished"):
        put(five, place, backup=second)
    done = put(five, place, backup=first)
    assert done["compared"]["equal"] == 3000 and done["plan"][0]["reason"] == "goes on where an earlier run was interrupted"
    assert digests(five) == {key: value for key, value in digests(source).items() if key != "later"}


def test_a_key_that_was_written_after_a_killed_restore_stays_and_is_named(
    lab: Lab, target: Lab, place: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refill, "BATCH_KEYS", 50)
    source = form(lab, 3)
    send(source, *[("SET", f"key-{number}", f"value-{number}") for number in range(1000)])
    take(source, place)
    five = form(target, 5)
    killed(five, place, 3)
    send(five, ("SET", "key-7", "newer"))
    with pytest.raises(PlatformError, match=r"1 of 1000 keys and 0 functions are not as in backup .*'key-7': another value"):
        put(five, place)
    assert send(five, ("GET", "key-7")) == ["newer"] and len(digests(five)) == 1000


def test_what_a_cluster_holds_is_overwritten_with_its_token_only(lab: Lab, place: dict[str, t.Any]) -> None:
    source = form(lab, 3)
    send(source, ("SET", "kept", "old"), ("SET", "changed", "old"))
    take(source, place)
    send(source, ("SET", "changed", "new"), ("SET", "other", "new"))
    with pytest.raises(PlatformError, match=r"The cluster is not empty .* overwrite: [0-9a-f]{16}") as refusal:
        put(source, place)
    token = refusal.value.message[-16:]
    with pytest.raises(PlatformError, match=r"overwrite does not name this cluster"):
        put(source, place, overwrite="0" * 16)
    assert send(source, ("GET", "changed")) == ["new"]
    assert put(source, place, overwrite=token, check=True)["changed"] and send(source, ("GET", "changed")) == ["new"]
    put(source, place, overwrite=token)
    assert send(source, ("GET", "kept"), ("GET", "changed"), ("GET", "other")) == ["old", "old", "new"]


def test_comparison_finds_one_altered_key(lab: Lab, place: dict[str, t.Any]) -> None:
    source = form(lab, 3)
    fill(source)
    take(source, place)
    assert put(source, place, mode="compare")["compared"]["equal"] == 2021
    send(source, ("HSET", "hash", "f7", "tampered"))
    with pytest.raises(PlatformError, match=r"^1 of 2021 keys .*'hash': another value on"):
        put(source, place, mode="compare")
    send(source, ("HSET", "hash", "f7", "v7"), ("PEXPIRE", "text", "10000000"), ("DEL", "zset"))
    with pytest.raises(PlatformError, match=r"^2 of 2021 keys") as refusal:
        put(source, place, mode="compare")
    assert "'text': expires at" in refusal.value.message and "'zset': missing on" in refusal.value.message
    source.servers[0]("FUNCTION", "DELETE", "shop")
    with pytest.raises(PlatformError, match=r"and 1 functions are not as in backup .*function library shop on"):
        put(source, place, mode="compare")


def test_drill(lab: Lab, place: dict[str, t.Any], tmp_path: Path) -> None:
    source = form(lab, 3)
    fill(source)
    identifier = take(source, place)["backup"]["id"]
    assert put(source, place, mode="drill", check=True)["changed"]
    result = put(source, place, mode="drill")
    assert result["compared"]["equal"] == 2021 and result["drill"]["ok"] and result["drill"]["backup"] == identifier
    assert 0 < result["drill"]["rto_seconds"] < 120 and 0 < result["drill"]["rpo_seconds"] < 120
    note = next((tmp_path / "progressive-platform" / "redis").glob("*.drill.json"))
    assert json.loads(note.read_text()) == result["drill"]


def test_drill_catches_a_tampered_value(lab: Lab, place: dict[str, t.Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = form(lab, 3)
    fill(source)
    take(source, place)
    original = refill.restore

    def tampering(parts: t.Any, receivers: t.Any, *rest: t.Any) -> refill.Tally:
        tally = original(parts, receivers, *rest)
        connection = receivers[0].connect()
        assert connection.call([("SREM", "set", "member-17"), ("SADD", "set", "member-x")], time.monotonic() + 10) == [1, 1]
        connection.close()
        return tally

    monkeypatch.setattr(refill, "restore", tampering)
    with pytest.raises(PlatformError, match=r"The drill failed. 1 of 2021 keys .*'set': another value on the scratch server"):
        put(source, place, mode="drill")
    note = json.loads(next((tmp_path / "progressive-platform" / "redis").glob("*.drill.json")).read_text())
    assert note["ok"] is False and "'set'" in note["problem"]


def nothing_kept(place: dict[str, t.Any]) -> bool:
    return not [path for path in Path(place["path"]).rglob("*") if path.is_file()]


def test_refused_while_slots_move(lab: Lab, place: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch) -> None:
    source = form(lab, 3)
    first, second = source.servers[:2]
    first("CLUSTER", "SETSLOT", 77, "MIGRATING", second.id())
    with pytest.raises(PlatformError, match=rf"Slots are being moved \({first.name}: 77\)"):
        take(source, place)
    first("CLUSTER", "SETSLOT", 77, "STABLE")
    original = backup.take

    def moving(*given: t.Any) -> t.Any:
        snapshot = original(*given)
        for server in (second, first):
            server("CLUSTER", "SETSLOT", 77, "NODE", second.id())
        return snapshot

    monkeypatch.setattr(backup, "take", moving)
    with pytest.raises(PlatformError, match=r"Slots have changed hands while the backup was taken"):
        take(source, place)
    assert nothing_kept(place)


def test_a_shard_that_lost_its_master_or_all_of_its_copies(lab: Lab, place: dict[str, t.Any]) -> None:
    """A replica without a master sends nothing; elected, it is the copy that is taken."""
    lab.converge()
    fill(lab)
    master = lab.masters()[1]
    replica = lab.replicas_of(master)[0]
    master.kill()
    with pytest.raises(
        PlatformError, match=rf"No copy of slots 5462-10922 \(owner [0-9a-f]{{40}}\).*{replica.name} sends nothing before it is elected"
    ):
        lab.wait(lambda: "master_link_status:down" in replica("INFO", "replication"))
        take(lab, place)
    lab.wait(lambda: replica in lab.masters(), 30)
    result = take(lab, place)
    assert result["backup"]["keys"] == 2021 and "slots 5462-10922 are taken on their master" in result["warnings"][0]
    replica.kill()
    with pytest.raises(PlatformError, match=r"No copy of slots 5462-10922 \(owner [0-9a-f]{40}\).*heal it first"):
        take(lab, place)


def test_no_room(lab: Lab, place: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch) -> None:
    source = form(lab, 3)
    monkeypatch.setattr(storage, "room", lambda _directory: 1000)
    with pytest.raises(PlatformError, match=r"The backup may need up to .* MB, and .* has 0 MB left"):
        take(source, place)
    monkeypatch.undo()
    monkeypatch.setattr(backup.Shard, "file", property(lambda _self: "../../../../../../../../dev/full"))
    with pytest.raises(PlatformError, match=r"the snapshot cannot be written: No space left on device"):
        take(source, {**place, "path": str(Path(place["path"]).parent / "b")})


def test_retention_and_the_wrong_password(lab: Lab, place: dict[str, t.Any]) -> None:
    source = form(lab, 3)
    for server in source.servers:
        server.pipeline([("CONFIG", "SET", "masterauth", "secret-word"), ("CONFIG", "SET", "requirepass", "secret-word")])
        server.password = "secret-word"
    first = take(source, place, password="secret-word")
    taken = [first, *(take(source, place, password="secret-word", keep=2) for _unused in range(3))]
    gone = [one for result in taken for one in result["removed"]]
    assert len(gone) == len(set(gone)) == 2 and taken[-1]["backup"]["id"] not in gone
    assert len(list(Path(place["path"]).rglob("manifest.json"))) == 2
    assert all("secret-word" not in path.read_text() for path in Path(place["path"]).rglob("manifest.json"))
    with pytest.raises(PlatformError, match=r"No node answers.*WRONGPASS"):
        take(source, place, password="wrong")
