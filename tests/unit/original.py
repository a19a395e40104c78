# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sections of the original description, with what does each of them here and the test that proves it; ``make docs`` writes docs/original.md."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs/original.md"
BEGIN, END = "<!-- sections: made by `make docs` from tests/unit/original.py -->", "<!-- end of sections -->"
MISSING = "not here yet"

MANIFESTS = "tests/unit/roles/test_manifests.py"
SCALED = "tests/cluster/test_autoscaling.py"
MESH = "tests/unit/istio/test_documents.py"
PROBES = "tests/cluster/test_istio.py"


@dataclasses.dataclass(frozen=True)
class Row:
    """``here`` are paths, ``tests`` are ``path::function``; a section without them says in ``remark`` what is missing."""

    section: str
    here: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    remark: str = ""


ROWS = [
    Row("Container architecture, design principles, 12 factors", ("images/services", "roles/workload"),
        ("tests/unit/images/test_parts.py::test_a_wrong_setting_is_named", "tests/unit/images/test_parts.py::test_log_lines_are_json_and_hide_secrets"),
        "configuration by environment, refused at the start when it is wrong"),
    Row("Multi-stage Dockerfile: application, agent, static frontend", ("images/Containerfile", "images/frontend"),
        ("tests/unit/images/test_build.py::test_the_first_plan_makes_everything_in_order",
         "tests/unit/images/test_parts.py::test_the_frontend_names_assets_by_content_and_compresses_them"),
        "Python in place of Node; non-root, init as PID 1, bases as build arguments"),
    Row("Layer and build cache optimization", ("roles/images", "plugins/module_utils/_images"),
        ("tests/unit/images/test_build.py::test_what_is_there_is_not_made_again",
         "tests/unit/images/test_build.py::test_a_tag_moves_when_and_only_when_what_the_image_is_made_from_moves")),
    Row("Multi-architecture", ("images/Containerfile", "roles/images"),
        ("tests/unit/images/test_publish.py::test_a_static_program_is_built_for_both_architectures_and_pushed_as_one_index",
         "tests/unit/images/test_contents.py::test_an_emulator_that_the_kernel_knows_is_enough"),
        f"Go programs, cross-compiled; the services' images for arm64: {MISSING}"),
    Row("Docker Compose for development", ("compose.dev.yml", "images/services/progressive/reload.py"),
        ("tests/compose/test_compose.py::test_the_transaction_passes_through_all_services",
         "tests/compose/test_compose.py::test_a_changed_source_is_running_at_once"),
        "seen with podman; `make up` gives developers a Kubernetes as well"),
    Row("Production cluster, node pools, taints", ("roles/local_cluster", "roles/baseline"),
        ("tests/cluster/test_local_cluster.py::test_nodes_have_their_zones_and_pools", "tests/unit/preflight/test_server.py::test_nodes_a_pod_may_use"),
        "the pools are labels and taints that preflight looks for; nobody here makes virtual machines"),
    Row("Manifest structure, environments", ("inventories", "roles"),
        ("tests/cluster/test_inventories.py::test_the_server_takes_every_manifest_in_a_dry_run", f"{MANIFESTS}::test_names_are_unique"),
        "inventories in place of kustomize overlays"),
    Row("Core application: Deployment, Service, account and rights, probes, init container", ("roles/app", "roles/workload"),
        (f"{MANIFESTS}::test_production_has_the_originals_numbers", f"{MANIFESTS}::test_every_pod_has_its_probes_and_they_differ",
         f"{MANIFESTS}::test_tokens_only_with_rules", "tests/unit/images/test_services.py::test_a_rollout_under_load_loses_no_request")),
    Row("Master Coordination Agent", ("roles/agents",),
        (f"{MANIFESTS}::test_production_has_the_originals_numbers", "tests/unit/images/test_services.py::test_one_transaction_touches_everything")),
    Row("Autoscaler of the agents", ("roles/workload", "roles/autoscaling"),
        (f"{MANIFESTS}::test_replicas_belong_to_the_autoscaler", f"{MANIFESTS}::test_custom_metrics_only_where_they_are_served",
         f"{SCALED}::test_requests_make_pods_and_silence_takes_them_away"),
        "by CPU and memory; by requests per second where role autoscaling, or a KEDA, serves them"),
    Row("Nutrition Planning Agent, session affinity", ("roles/agents",), (f"{MANIFESTS}::test_production_has_the_originals_numbers",)),
    Row("Workout Planning Agent", ("roles/agents",),
        (f"{MANIFESTS}::test_a_fourth_agent_is_five_lines", "tests/cluster/test_platform.py::test_a_fourth_agent_in_five_lines")),
    Row("Istio installation", ("roles/istio", "plugins/modules/istio_manifest.py"),
        ("tests/unit/istio/test_manifest.py::test_manifests_are_generated_once_for_the_same_wish", f"{PROBES}::test_nothing_changes_twice"),
        "istioctl pinned by checksum in place of `curl | sh`; off by default"),
    Row("Traffic management: gateway, routes, load balancing, circuit breaking", ("roles/gateway", "roles/workload"),
        (f"{MESH}::test_no_route_of_istios_own_hides_another", f"{MESH}::test_traffic_rules_are_about_services_that_are_there",
         "tests/unit/istio/test_analyze.py::test_nothing_is_found_in_what_an_inventory_sends",
         "tests/unit/istio/test_edge_envoy.py::test_over_the_limit_of_a_route_there_is_429_and_elsewhere_not", f"{PROBES}::test_what_the_world_may_ask"),
        "the original's first route hid all others"),
    Row("Canary by header and weight", ("plugins/modules/canary.py", "playbooks/canary.yml"),
        (f"{PROBES}::test_a_canary_gets_its_share", f"{PROBES}::test_a_bad_canary_is_taken_back"), "judged and taken back by itself"),
    Row("Security policies: mutual TLS, authorization, tokens", ("roles/istio", "roles/gateway"),
        (f"{PROBES}::test_who_may_call_whom", f"{MESH}::test_policies_let_named_callers_in_and_nobody_else", f"{MESH}::test_tokens_and_what_is_open")),
    Row("PostgreSQL: primary, read replicas, Services", ("roles/postgresql", "plugins/modules/postgresql_cluster.py"),
        ("tests/cluster/test_postgresql.py::test_three_members_over_three_zones", "tests/cluster/test_postgresql.py::test_the_primary_is_killed"),
        "under Patroni: the original's three pods were three databases"),
    Row("Redis Cluster and its initialization Job", ("roles/redis_cluster", "plugins/modules/redis_cluster.py"),
        ("tests/cluster/test_redis_cluster.py::test_a_cluster_of_pods", "tests/cluster/test_redis_scale.py::test_three_masters_become_five_and_three_again",
         "tests/redis/test_chaos.py::test_random_damage"),
        "a module in place of a Job of redis-cli, which answered no question of its own"),
    Row("MongoDB", ("roles/mongodb", "plugins/modules/mongodb_replicaset.py"),
        ("tests/mongodb/test_states.py::test_m8_a_lost_majority_is_refused_and_forced_only_by_name",),
        "named by the original and never described; FerretDB here, the replica set on a simulator only"),
    Row("Prometheus for containers", ("roles/monitoring",),
        ("tests/unit/monitoring/test_manifests.py::test_everything_that_is_scraped_is_there_with_its_port",
         "tests/cluster/test_monitoring.py::test_everything_is_scraped_and_every_rule_evaluated"), "off by default"),
    Row("Alert rules", ("roles/monitoring", "docs/alerts"),
        ("tests/unit/monitoring/test_alerts.py::test_every_alert_fires_and_stays_quiet", "tests/unit/monitoring/test_alerts.py::test_every_alert_has_its_page"),
        "each with its page and a case that fires it"),
    Row("Grafana, Jaeger, Kiali", ("roles/monitoring", "roles/tracing", "roles/istio"),
        ("tests/unit/monitoring/test_dashboards.py::test_grafanas_own_types_read_them_and_say_the_same",
         "tests/cluster/test_dashboards.py::test_every_query_returns_data_after_a_load",
         "tests/cluster/test_tracing.py::test_health_finds_one_trace_from_the_application_to_every_database",
         "tests/unit/images/test_tracing.py::test_a_transaction_is_one_trace_without_a_gap",
         "tests/kwok/test_kiali.py::test_the_server_takes_it_and_pod_security_lets_its_pod_in"),
        "Grafana is rendered only; Kiali by its makers' chart, off by default, taken by an API server and never run"),
    Row("Vertical Pod Autoscaler", ("roles/autoscaling",),
        ("tests/unit/autoscaling/test_manifests.py::test_sizes_are_recommended_unless_they_may_be_set",
         "tests/unit/preflight/test_autoscaling.py::test_what_is_wrong_is_refused_by_name",
         "tests/kwok/test_vertical.py::test_who_may_be_set_is_set_where_it_stands_and_nobody_else"),
        "never by what the horizontal one counts by, as the original has it; its recommender and updater were seen on simulated pods"),
    Row("Cluster Autoscaler", ("roles/autoscaling",),
        ("tests/unit/autoscaling/test_manifests.py::test_the_cluster_autoscaler_knows_the_originals_groups",
         "tests/unit/autoscaling/test_manifests.py::test_rights_are_the_least", f"{SCALED}::test_the_server_takes_what_nobody_runs_here",
         "tests/kwok/test_karpenter.py::test_no_group_grows_beyond_its_largest"),
        "or Karpenter's node pools, seen on simulated nodes; the autoscaler is valid for the server, not run: its cloud cannot be had here"),
    Row("Pod disruption budgets", ("roles/workload",),
        (f"{MANIFESTS}::test_exactly_one_budget_a_pod", "tests/cluster/test_health.py::test_two_budgets_and_one_that_blocks"),
        "the original's two budgets for one pod refuse every eviction"),
    Row("Node affinity and taints", ("roles/workload", "roles/baseline"),
        ("tests/unit/preflight/test_server.py::test_nodes_a_pod_may_use", "tests/cluster/test_postgresql.py::test_three_members_over_three_zones")),
    Row("Troubleshooting: startup, agents, performance, databases", ("plugins/modules/debug_bundle.py", "docs/debug.md"),
        ("tests/cluster/test_debug.py::test_a_row_of_the_original", "tests/unit/debug/test_causes.py::test_why_a_pod_does_not_run")),
    Row("Debugging script", ("playbooks/debug.yml",),
        ("tests/cluster/test_debug.py::test_one_workload_within_ten_seconds_by_playbook",
         "tests/cluster/test_debug.py::test_a_secret_that_a_log_repeats_does_not_leave")),
]  # fmt: skip


def problems() -> list[str]:
    """What the table says and the tree does not have, and rows that say nothing."""
    found = [f"{row.section}: {path} is not there" for row in ROWS for path in row.here if not (ROOT / path).exists()]
    for row in ROWS:
        if not (row.here and row.tests) and MISSING not in row.remark:
            found.append(f"{row.section}: nothing does it, and nothing is said of that")
        for test in row.tests:
            path, _colons, name = test.partition("::")
            file = ROOT / path
            if not file.exists() or not re.search(rf"^def {name}\(", file.read_text(encoding="utf-8"), re.MULTILINE):
                found.append(f"{row.section}: no test {test}")
    return found


def rewritten() -> str:
    """The whole document as it ought to be."""
    before, _unused, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    lines = [BEGIN, "", "| Section | Here | Proved by | Remark |", "| --- | --- | --- | --- |"]
    for row in ROWS:
        here = ", ".join(f"[{path}](../{path})" for path in row.here) or "-"
        tests = "; ".join("`{}`: `{}`".format(*test.split("::")) for test in row.tests) or "-"
        lines.append(f"| {row.section} | {here} | {tests} | {row.remark or '-'} |")
    return before + "\n".join([*lines, "", END]) + rest.partition(END)[2]


if __name__ == "__main__":
    DOCUMENT.write_text(rewritten(), encoding="utf-8")
    print(DOCUMENT.relative_to(ROOT))
