"""analyze, matrix, diff and who-can-reach from outside, on manifests that run nowhere."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.sluice.conftest import ROOT
from tests.sluice.test_cli import sluice

DEMO = ROOT / "sluice/demo"
SHOP = str(DEMO / "shop.yaml")
PAYMENT = str(DEMO / "payment.networkpolicy.yaml")
CATALOG = str(DEMO / "catalog.ciliumnetworkpolicy.yaml")
REVIEWS = str(DEMO / "reviews.httproute.yaml")
ABSENT = "no-such-mesh"

TRAP = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: typo, namespace: shop%s}
spec: {podSelector: {matchLabels: {app: paymint}}}
"""


def trap(folder: Path, annotations: str = "") -> str:
    path = folder / "trap.yaml"
    path.write_text(TRAP % annotations)
    return str(path)


def test_the_demo_holds_no_trap() -> None:
    done = sluice("analyze", "-f", SHOP, PAYMENT, CATALOG, REVIEWS)
    assert (done.returncode, done.stdout) == (0, "nothing found\n")


def test_a_finding_has_code_object_field_message_and_remedy(tmp_path: Path) -> None:
    done = sluice("analyze", "-f", SHOP, trap(tmp_path))
    assert done.stdout.startswith(
        "Warning [SL0101] NetworkPolicy shop/typo spec.podSelector\n  selects no pod"
    )
    assert "  remedy: " in done.stdout
    answer = json.loads(sluice("analyze", "-f", SHOP, trap(tmp_path), "-o", "json").stdout)
    assert answer["findings"][0].keys() == {"code", "severity", "object", "field", "message", "remedy"}


def test_what_makes_analyze_fail_can_be_chosen(tmp_path: Path) -> None:
    path = trap(tmp_path)
    assert sluice("analyze", "-f", SHOP, path).returncode == 0
    assert sluice("analyze", "-f", SHOP, path, "--fail-on", "warning").returncode == 79
    assert sluice("analyze", "-f", SHOP, path, "--fail-on", "Info", "--suppress", "SL0101").returncode == 0
    (tmp_path / "bad.yaml").write_text(TRAP.replace("paymint", "{}") % "")
    assert sluice("analyze", "-f", SHOP, str(tmp_path / "bad.yaml")).returncode == 79


def test_an_annotation_suppresses_a_finding(tmp_path: Path) -> None:
    path = trap(tmp_path, ", annotations: {sluice.io/analyze-suppress: SL0101}")
    assert sluice("analyze", "-f", SHOP, path).stdout == "nothing found\n"


def test_analyze_lists_what_it_looks_for() -> None:
    done = sluice("analyze", "--list")
    assert done.returncode == 0
    assert "SL0201   Warning   an L4 allow makes an L7 rule void" in done.stdout


def test_a_matrix_comes_as_table_json_and_picture() -> None:
    files = ("-f", SHOP, PAYMENT, CATALOG, REVIEWS)
    text = sluice("matrix", *files).stdout
    assert "shop/storefront         k  k  k  R  x  E  E  ·\n" in text
    assert "\x1b" not in text  # not a terminal
    answer = json.loads(sluice("matrix", *files, "-o", "json", "-n", "shop").stdout)
    assert {column["to"]["name"] for column in answer["columns"]} >= {"shop/cart", "shop/reviews-v2"}
    picture = sluice("matrix", *files, "-o", "svg").stdout
    assert ElementTree.fromstring(picture).tag.endswith("svg")


def test_a_namespace_without_ports_says_so() -> None:
    done = sluice("matrix", "-f", SHOP, "-n", "nowhere")
    assert (done.returncode, done.stdout.split(",")[0]) == (0, "no pod has a port that a Service")


def test_diff_tells_who_is_shut_out_and_by_which_rule() -> None:
    done = sluice("diff", "--from", SHOP, CATALOG, "-f", PAYMENT)
    assert done.returncode == 1
    assert done.stdout == (
        "NetworkPolicy shop/payment created\n"
        "\n"
        "shop/payment TCP 8080  from kube-system/sluice-dns, shop/catalog, shop/reviews-v1, shop/reviews-v2,"
        " shop/storefront, world\n"
        "  - allow, kernel  no policy has a say\n"
        "  + deny  NetworkPolicy shop/payment (default)\n"
    )


def test_diff_replaces_objects_of_the_same_name(tmp_path: Path) -> None:
    newer = tmp_path / "newer.yaml"
    newer.write_text(Path(CATALOG).read_text().replace("GET", "PUT"))
    done = sluice("diff", "--from", SHOP, CATALOG, "-f", str(newer))
    assert done.returncode == 1
    assert done.stdout.startswith("CiliumNetworkPolicy shop/catalog configured\n")
    assert "  ~ by request, envoy, other rules for requests  CiliumNetworkPolicy shop/catalog" in done.stdout


def test_diff_reads_standard_input_and_ends_with_0_where_nothing_changes() -> None:
    done = sluice("diff", "--from", SHOP, CATALOG, "-f", "-", stdin=Path(CATALOG).read_text())
    assert (done.returncode, done.stdout) == (0, "no verdict and no path changes\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from", SHOP, "-f", "/nowhere"), "sluice: there is no /nowhere\n"),
        (("--name", ABSENT, "-f", PAYMENT), f"sluice: mesh {ABSENT} is not running; "),
    ],
)
def test_trouble_is_no_difference_so_diff_ends_with_2(arguments: tuple[str, ...], said: str) -> None:
    done = sluice("diff", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (Path(CATALOG).read_text().replace("method:", "methud:"), "CiliumNetworkPolicy shop/catalog"),
        ("a: [", "File standard input"),
    ],
)
def test_diff_ends_with_2_where_an_object_would_be_refused(text: str, name: str) -> None:
    done = sluice("diff", "--from", SHOP, CATALOG, "-f", "-", stdin=text)
    assert done.returncode == 2
    assert f"problem: {name}" in done.stderr and f"{name} would be refused\n" in done.stderr
    assert "no verdict" not in done.stdout


def test_who_can_reach_names_groups_verdicts_paths_and_rules() -> None:
    done = sluice("explain", "--who-can-reach", "shop/payment:80", "-f", SHOP, PAYMENT)
    assert done.stdout == (
        "shop/payment TCP 8080  (Service shop/payment:80)\n"
        "  allow, kernel     shop/cart\n"
        "                    NetworkPolicy shop/payment ingress[0]\n"
        "  allow, kernel     shop/payment, node\n"
        "                    no policy has a say\n"
        "  deny              kube-system/sluice-dns, shop/catalog, shop/reviews-v1, shop/reviews-v2,"
        " shop/storefront, world\n"
        "                    NetworkPolicy shop/payment (default)\n"
    )
    answer = json.loads(
        sluice("explain", "--who-can-reach", "shop/payment:80", "-f", SHOP, PAYMENT, "-o", "json").stdout
    )
    assert ["shop/cart"] in [access["from"] for access in answer["columns"][0]["access"]]


@pytest.mark.parametrize(
    "arguments",
    [
        ("explain", "--who-can-reach", "a/b:1", "--to", "c/d:1"),
        ("explain", "--who-can-reach", "a/b:1", "--method", "GET"),
        ("explain", "--to", "a/b:1"),
        ("analyze", "--suppress", "SL9999"),
        ("matrix", "-o", "png"),
        ("diff",),
    ],
)
def test_wrong_usage_of_the_tools_ends_with_2(arguments: tuple[str, ...]) -> None:
    done = sluice(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: sluice")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("matrix", "--name", ABSENT), "is not running"),
        (("analyze", "--name", ABSENT), "is not running"),
        (("explain", "--name", ABSENT, "--who-can-reach", "a/b:1"), "is not running"),
        (("explain", "--who-can-reach", "shop/x:1", "-f", SHOP), "neither a Service nor a Pod"),
        (("matrix", "-f", "/nowhere"), "there is no /nowhere"),
        (("analyze", "-f", "/bin/sh"), "/bin/sh is not UTF-8"),
    ],
)
def test_a_failure_of_the_tools_is_one_line_and_ends_with_1(arguments: tuple[str, ...], said: str) -> None:
    done = sluice(*arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_traps_of_the_demo_are_told() -> None:
    done = sluice("analyze", "-f", SHOP, str(DEMO / "traps.yaml"), "-o", "json")
    assert {(finding["code"], finding["object"]) for finding in json.loads(done.stdout)["findings"]} == {
        ("SL0101", "NetworkPolicy shop/payment-closed"),
        ("SL0201", "CiliumNetworkPolicy shop/read-only"),
        ("SL0204", "NetworkPolicy shop/cart-egress"),
        ("SL0301", "NetworkPolicy shop/cart-egress"),
        ("SL0502", "NetworkPolicy shop/reviews-public"),
    }


BY_NAME = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: by-name, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: cart}}
  egress:
  - toEndpoints: [{matchLabels: {io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}}]
    toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchPattern: "*.example.com"}]}}]
  - toFQDNs: [{matchPattern: "*.example.com"}]
"""


def test_the_resolver_is_known_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "by-name.yaml"
    path.write_text(BY_NAME)
    files = ("-f", SHOP, str(path))
    assert "resolver" not in sluice("analyze", *files).stdout
    asked = sluice(
        "explain", *files, "--from", "shop/cart", "--to", "kube-system/kube-dns:53", "--protocol", "UDP"
    )
    assert "allow queries for *.example.com [resolver]" in asked.stdout
