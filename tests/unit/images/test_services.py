# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The app and the agents as real processes on a real Redis Cluster: transactions, failures, recovery, and shutdown under load."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import typing as t

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from .conftest import PASSWORD, Process, Redis, Rotation, Starter, eventually, free_ports


def metric(process: Process, name: str) -> float:
    """The sum of a metric's samples."""
    text = httpx.get(f"{process.ops_url}/metrics", trust_env=False).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith((name + "{", name + " ")))


def grpc_health(process: Process, service: str = "") -> str:
    with grpc.insecure_channel(f"127.0.0.1:{process.grpc_port}") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def outcome(response: httpx.Response) -> dict[tuple[str, str], str]:
    """A transaction's steps as ``(component, backend) -> error``."""
    return {(step["component"], step["backend"]): step["error"] for step in response.json()["steps"]}


def test_one_transaction_touches_everything(platform: dict[str, Process], redis: Redis) -> None:
    response = platform["app"].post("/api/v1/transaction", {"profile": {"goal": "lose", "days": 4}})
    answer = response.json()
    assert response.status_code == 200, answer
    assert answer["ok"]
    touched = {(component, "redis") for component in platform}
    called = {("app", "mca"), ("mca", "npa"), ("mca", "wpa"), ("mca", "npa/grpc"), ("mca", "wpa/grpc")}
    assert set(outcome(response)) == touched | called
    assert all(step["ok"] and step["seconds"] > 0 and step["error"] == "" for step in answer["steps"])
    assert set(answer["plan"]) == {"nutrition", "workout"}
    assert len(answer["plan"]["workout"]["days"]) == 4
    # What the services say they wrote is in Redis, on whichever master has the key's slot.
    keys = {key for port in redis.ports for key in redis.cli(port, "--scan", "--pattern", f"trace:{answer['id']}:*").split()}
    assert keys == {f"trace:{answer['id']}:{component}" for component in platform}


def test_the_callers_id_goes_through_everything(platform: dict[str, Process]) -> None:
    response = httpx.post(f"{platform['app'].url}/api/v1/transaction", headers={"x-request-id": "order-66"}, trust_env=False, timeout=30)
    assert response.json()["id"] == "order-66"
    assert response.headers["x-request-id"] == "order-66"
    for process in platform.values():  # a request's line is written after its answer
        eventually("the line is there", lambda process=process: "order-66" in [line.get("id") for line in process.logs()])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"profile": {"weight": 5}}, "weight is 5.0: wanted 30 to 300"),
        ({"profile": {"goal": "fly"}}, "wanted one of lose, keep, gain"),
        ({"profile": {"wings": 2}}, "unknown key 'wings'"),
        ({"profile": {"age": "old"}}, "age is 'old': wanted a number"),
        ([], "wanted an object"),
        ({"profile": {"weight": 80}, "more": "x" * 70000}, "larger than 65536 bytes"),
    ],
)
def test_a_wrong_request_is_refused_with_its_reason(platform: dict[str, Process], body: t.Any, reason: str) -> None:
    for process, path in ((platform["app"], "/api/v1/transaction"), (platform["npa"], "/api/v1/plan")):
        response = process.post(path, body)
        assert response.status_code == 400
        assert reason in response.json()["error"]


def test_items_are_kept_and_count_their_writes(platform: dict[str, Process]) -> None:
    url = f"{platform['app'].url}/api/v1/items"
    with httpx.Client(trust_env=False) as client:
        key = f"plan-{time.time_ns()}"
        assert client.get(f"{url}/{key}").status_code == 404
        first = client.put(f"{url}/{key}", json={"a": [1, "zwei"]})
        assert (first.status_code, first.json()["version"]) == (201, 1)
        second = client.put(f"{url}/{key}", json="other")
        assert (second.status_code, second.json()["version"]) == (200, 2)
        assert client.get(f"{url}/{key}").json() == {"key": key, "value": "other", "version": 2}
        assert client.put(f"{url}/{key}", content=b"{").status_code == 400
        assert client.get(f"{url}/a b").status_code == 400
        assert client.delete(f"{url}/{key}").status_code == 405


def test_without_redis_the_process_lives_and_says_why_it_is_not_ready(platform: dict[str, Process], redis: Redis) -> None:
    redis.stop()
    for process in platform.values():
        answer = eventually(
            "readiness is gone", lambda process=process: (r := process.get("/health/ready")).status_code == 503 and r.json()
        )
        assert any("redis" in reason for reason in answer["reasons"])
        assert process.get("/health").status_code == 200
        assert process.get("/health/startup").status_code == 200
        assert metric(process, "backend_up") == 0
    response = platform["app"].post("/api/v1/transaction")
    assert response.status_code == 503
    errors = outcome(response)
    assert "redis" in errors["app", "redis"]
    assert "redis" in errors["mca", "redis"]
    # On a busy machine the answer may come after its deadline.
    eventually("npa says so", lambda: "NOT_SERVING" in outcome(platform["app"].post("/api/v1/transaction"))["mca", "npa/grpc"])
    # A cluster made anew: other node ids, no data, the same names.
    redis.start()
    for process in platform.values():
        process.until_ready()
        assert process.process.poll() is None
    eventually("transactions succeed again", lambda: platform["app"].post("/api/v1/transaction").status_code == 200)
    for process in platform.values():
        assert PASSWORD not in process.log.read_text()


def test_redis_that_comes_back_at_other_addresses_is_found(platform: dict[str, Process], redis: Redis, start: Starter) -> None:
    """Pods that restart have other addresses; only the seeds' names stay. Here the first seed's port stays and the other two move."""
    redis.stop()
    stays = redis.ports[0]
    redis.ports = [stays, *free_ports(2)]
    redis.start()
    eventually("transactions succeed again", lambda: platform["app"].post("/api/v1/transaction").status_code == 200)


def test_a_lost_agent_fails_the_transaction_and_is_named(own_platform: dict[str, Process]) -> None:
    own_platform["wpa"].stop()
    response = own_platform["app"].post("/api/v1/transaction")
    errors = outcome(response)
    assert response.status_code == 503
    assert "UNAVAILABLE" in errors["mca", "wpa/grpc"]
    assert [key for key, error in errors.items() if error] == [("app", "mca"), ("mca", "wpa/grpc")]
    assert "nutrition" in response.json()["plan"]
    # Its own backends are well, so the app stays ready: an agent's failure must not empty the app's Service.
    assert own_platform["app"].get("/health/ready").status_code == 200


def test_a_lost_coordinator_is_named_with_its_address(own_platform: dict[str, Process]) -> None:
    own_platform["mca"].stop()
    errors = outcome(own_platform["app"].post("/api/v1/transaction"))
    assert own_platform["mca"].url in errors["app", "mca"]
    assert errors["app", "redis"] == ""


def test_an_agent_of_no_known_kind_plans_too(redis: Redis, start: Starter) -> None:
    agent = start("agent", AGENT_TYPE="spa", AGENT_SPECIALIZATION="sleep", REDIS_CLUSTER_NODES=redis.seeds, REDIS_PASSWORD=PASSWORD)
    agent.until_ready()
    assert agent.post("/api/v1/plan").json()["plan"] == {"sleep": {"minutes": {"day-1": 100, "day-2": 100, "day-3": 100}}}


def test_grpc_health_is_readiness(platform: dict[str, Process], redis: Redis) -> None:
    npa = platform["npa"]
    assert eventually("serving", lambda: grpc_health(npa) == grpc_health(npa, "progressive.Agent") == "SERVING")
    with pytest.raises(grpc.RpcError) as unknown:
        grpc_health(npa, "another")
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    redis.stop()
    eventually("not serving", lambda: grpc_health(npa) == "NOT_SERVING")


def test_metrics_of_an_agent(redis: Redis, start: Starter) -> None:
    npa = start("agent", AGENT_TYPE="npa", REDIS_CLUSTER_NODES=redis.seeds, REDIS_PASSWORD=PASSWORD)
    npa.until_ready()
    for _unused in range(5):
        assert npa.post("/api/v1/plan").status_code == 200
    assert metric(npa, "agent_requests_total") == 5
    assert metric(npa, "agent_errors_total") == 0
    assert metric(npa, "agent_request_duration_seconds_count") == 5
    assert 0 < metric(npa, "agent_requests_per_second") <= 5
    assert metric(npa, "backend_up") == 1
    text = httpx.get(f"{npa.ops_url}/metrics", trust_env=False).text
    assert 'agent_requests_per_second{agent_type="npa"}' in text
    assert 'agent_request_duration_seconds_bucket{agent_type="npa",le="10.0"} 5.0' in text
    # Probes are not traffic.
    npa.get("/health/ready")
    assert metric(npa, "agent_requests_total") == 5


def test_health_answers_on_both_ports(platform: dict[str, Process]) -> None:
    for process in platform.values():
        for path in ("/health", "/health/ready", "/health/startup"):
            assert httpx.get(f"{process.ops_url}{path}", trust_env=False).status_code == process.get(path).status_code == 200


class Load:
    """Clients that send one transaction after the other over kept connections to the instances in rotation, as a Service's users do."""

    def __init__(self, rotation: list[str], clients: int = 4) -> None:
        self.rotation = rotation
        self.failures: list[str] = []
        self.done = 0
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self.client, args=(index,)) for index in range(clients)]

    def client(self, index: int) -> None:
        with httpx.Client(trust_env=False, timeout=20) as client:
            while not self.ending.is_set():
                url = self.rotation[index % len(self.rotation)]
                index += 1
                try:
                    response = client.post(f"{url}/api/v1/transaction")
                except httpx.HTTPError as error:
                    self.failures.append(f"{url}: {error!r}")
                else:
                    self.done += 1
                    if response.status_code != 200:
                        self.failures.append(f"{url}: {response.status_code} {response.text}")

    def __enter__(self) -> t.Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.ending.set()
        for thread in self.threads:
            thread.join(30)


def test_a_rollout_under_load_loses_no_request(own_platform: dict[str, Process], start: Starter) -> None:
    """An instance is replaced while clients send: it leaves the rotation a second after its readiness turned, as endpoints do."""
    old = own_platform["app"]
    new = start("app", "new", **{name: old.environ[name] for name in ("AGENTS", "REDIS_CLUSTER_NODES", "REDIS_PASSWORD")})
    new.until_ready()
    with Load([old.url, new.url]) as load:
        eventually("load flows", lambda: load.done > 20)
        old.terminate()
        eventually("it says that it is draining", lambda: old.get("/health/ready").status_code == 503)
        assert old.get("/health").status_code == 200, "a draining process is alive"
        time.sleep(1)
        load.rotation = [new.url]
        assert old.process.wait(30) == 0
        before = load.done
        eventually("load still flows", lambda: load.done > before + 20)
    assert load.failures == []
    assert [line["message"] for line in old.logs() if line["message"] in ("serving", "draining", "stopped")] == [
        "serving",
        "draining",
        "stopped",
    ]


def test_an_agents_rollout_under_load_loses_no_request(redis: Redis, start: Starter) -> None:
    """MCA keeps HTTP and gRPC connections to one of two NPAs behind a Service; that one drains, and no transaction notices."""
    store = {"REDIS_CLUSTER_NODES": redis.seeds, "REDIS_PASSWORD": PASSWORD}
    pair = [start("agent", f"npa-{number}", AGENT_TYPE="npa", DRAIN_SECONDS="2", **store) for number in range(2)]
    http, rpc = Rotation([npa.port for npa in pair]), Rotation([npa.grpc_port for npa in pair])
    peers = {"PEERS": f"npa=http://127.0.0.1:{http.port}", "PEERS_GRPC": f"npa=127.0.0.1:{rpc.port}"}
    mca = start("agent", "mca", AGENT_TYPE="mca", **peers, **store)
    app = start("app", AGENTS=f"mca={mca.url}", **store)
    for process in (*pair, mca, app):
        process.until_ready()
    with Load([app.url]) as load:
        eventually("load flows", lambda: load.done > 20)
        for number, old in enumerate(pair):
            new = start("agent", f"npa-new-{number}", AGENT_TYPE="npa", **store)
            new.until_ready()
            http.ports, rpc.ports = [*http.ports, new.port], [*rpc.ports, new.grpc_port]
            old.terminate()
            time.sleep(1)
            http.ports = [port for port in http.ports if port != old.port]
            rpc.ports = [port for port in rpc.ports if port != old.grpc_port]
            assert old.process.wait(30) == 0
        before = load.done
        eventually("load still flows", lambda: load.done > before + 20)
    assert load.failures == []


def test_a_request_in_flight_is_finished_after_the_port_has_closed(platform: dict[str, Process], start: Starter) -> None:
    """A slow body holds a request open across the whole drain; it is answered all the same."""
    app = start(
        "app",
        "slow",
        DRAIN_SECONDS="0.2",
        SHUTDOWN_SECONDS="10",
        **{n: platform["app"].environ[n] for n in ("AGENTS", "REDIS_CLUSTER_NODES", "REDIS_PASSWORD")},
    )
    app.until_ready()

    def body() -> t.Iterator[bytes]:
        yield b'{"profile": '
        app.terminate()
        time.sleep(1.5)
        with pytest.raises(httpx.ConnectError):
            app.get("/health")
        yield b'{"days": 2}}'

    response = httpx.post(f"{app.url}/api/v1/transaction", content=body(), trust_env=False, timeout=20)
    assert response.status_code == 200
    assert app.process.wait(10) == 0


@pytest.mark.parametrize(
    ("module", "environ", "reason"),
    [
        ("agent", {}, "AGENT_TYPE is not set"),
        ("app", {"PORT": "many"}, "PORT is 'many'"),
        ("app", {"AGENTS": "mca"}, "AGENTS is 'mca'"),
        ("app", {"REDIS_CLUSTER_NODES": "redis"}, "REDIS_CLUSTER_NODES is 'redis'"),
        ("app", {"LOG_LEVEL": "LOUD"}, "one of DEBUG, INFO, WARNING, ERROR"),
        ("agent", {"AGENT_TYPE": "npa", "DRAIN_SECONDS": "-1"}, "DRAIN_SECONDS is '-1'"),
    ],
)
def test_a_wrong_environment_is_refused(start: Starter, module: str, environ: dict[str, str], reason: str) -> None:
    process = start(module, **environ)
    assert process.process.wait(20) == 78
    assert reason in process.logs()[-1]["message"]


def test_a_port_in_use_is_named(start: Starter) -> None:
    first = start("app")
    first.until_ready()
    second = start("app", "second", PORT=str(first.port))
    assert second.process.wait(20) == 1
    assert "Address already in use" in second.logs()[-1]["message"]


def migrate(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "progressive.migrate"], env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def test_migration_waits_for_redis_and_changes_nothing_twice(platform: dict[str, Process], redis: Redis) -> None:
    environ = platform["app"].environ
    redis.stop()
    gave_up = migrate({**environ, "MIGRATE_SECONDS": "2"})
    assert gave_up.returncode == 1
    assert "gave up waiting" in gave_up.stdout
    timer = threading.Timer(1.5, redis.start)
    timer.start()
    first = migrate({**environ, "MIGRATE_SECONDS": "30"})
    timer.join()
    assert first.returncode == 0, first.stdout
    assert "schema 0 -> 1" in first.stdout
    second = migrate(environ)
    assert second.returncode == 0
    assert "schema 1 is there already" in second.stdout
    assert PASSWORD not in gave_up.stdout + first.stdout + second.stdout


def test_a_wrong_password_is_told_without_showing_it(redis: Redis, start: Starter) -> None:
    app = start("app", REDIS_CLUSTER_NODES=redis.seeds, REDIS_PASSWORD="wrong-password")
    answer = eventually("not ready", lambda: (r := app.get("/health/ready")).status_code == 503 and "checked" not in r.text and r.json())
    assert any("redis" in reason for reason in answer["reasons"])
    assert "wrong-password" not in app.log.read_text() + str(answer)
