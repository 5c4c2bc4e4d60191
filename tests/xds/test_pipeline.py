"""Changes in, snapshots out, with the real core; bad input as the issue lists it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mesh.datapath import Node
from mesh.discovery.resource import Snapshot
from mesh.discovery.wire import unpack_any
from mesh.model import ObjectRef, WorkloadName
from mesh.node import Generation, Manifest
from mesh.resources import BODY_TYPE, GENERATION_TYPE, MANIFEST_TYPE, NODE_TYPES, TABLE_TYPES, decode, encode
from tests.xds.manifests import CART, PLACEMENTS, SHOP, http_policy, objects, policy
from xds import atomic
from xds.allocations import AllocationFile, Locked, lock
from xds.documents import ApiObject, digest_of, parse
from xds.pipeline import Outcome, Pipeline, StoreFailed
from xds.sandbox import Placement, Sandbox
from xds.source import Bundle, Change, Edit

RANGES = ("10.128.0.0/16", "fd51:ce00:0:2::/112")


def begun(state: Path, *changes: Change) -> Pipeline:
    pipeline = Pipeline(state, "local", RANGES, (), lambda node: None)
    pipeline.start(changes)
    return pipeline


def file(text: str, origin: str = "/m/shop.yaml") -> Bundle:
    return Bundle(origin, digest_of(text.encode()), parse(text, origin))


def apply(pipeline: Pipeline, *changes: Change) -> Outcome:
    (outcome,) = pipeline.apply([changes])
    assert isinstance(outcome, Outcome)
    return outcome


def sent(pipeline: Pipeline) -> Snapshot:
    snapshot = pipeline.snapshot_for("local")
    assert snapshot is not None
    return snapshot


def versions(pipeline: Pipeline) -> dict[str, dict[str, str]]:
    return {
        type_url: {name: resource.version for name, resource in resources.items()}
        for type_url, resources in sent(pipeline).items()
    }


def record(pipeline: Pipeline, type_url: str, name: str) -> Any:
    """The record inside a resource of the snapshot."""
    return decode(type_url, body(pipeline, type_url, name))


def body(pipeline: Pipeline, type_url: str, name: str) -> bytes:
    found, message = unpack_any(sent(pipeline)[type_url][name].any)
    assert found == type_url
    return message


@pytest.fixture
def published() -> list[str]:
    """The nodes that were told of a new snapshot."""
    return []


@pytest.fixture
def shop(tmp_path: Path, published: list[str]) -> Pipeline:
    pipeline = Pipeline(tmp_path, "local", RANGES, (), published.append)
    pipeline.start([*PLACEMENTS, file(SHOP)])
    return pipeline


def test_a_snapshot_holds_every_record_in_every_type(shop: Pipeline) -> None:
    assert set(sent(shop)) == set(NODE_TYPES)
    for table, records in shop.nodes["local"].state.tables().items():
        found = {name: record(shop, TABLE_TYPES[table], name) for name in sent(shop)[TABLE_TYPES[table]]}
        assert found == records
    generation = record(shop, GENERATION_TYPE, "generation")
    assert isinstance(generation, Generation)
    assert (generation.number, shop.generations.number) == (1, 1)


def test_an_unchanged_mesh_sends_nothing_and_counts_nothing(shop: Pipeline) -> None:
    before = sent(shop)
    assert apply(shop, file(SHOP), *PLACEMENTS).generation == 1
    assert sent(shop) is before


def test_a_change_makes_one_generation_and_leaves_other_tables_alone(shop: Pipeline) -> None:
    before = sent(shop)
    outcome = apply(shop, Placement(CART, Sandbox(("10.64.0.6", "fd51:ce00:0:1::6"), False)))
    assert outcome.generation == 2
    changed = {type_url for type_url in NODE_TYPES if sent(shop)[type_url] is not before[type_url]}
    assert changed == {TABLE_TYPES["services"], GENERATION_TYPE}
    assert sent(shop)[TABLE_TYPES["services"]]["shop/web"] is before[TABLE_TYPES["services"]]["shop/web"]


def test_a_pod_that_needs_an_envoy_has_a_manifest_whose_bodies_are_all_there(shop: Pipeline) -> None:
    apply(shop, file(http_policy(), "/m/items.yaml"))
    manifest = record(shop, MANIFEST_TYPE, "shop/cart")
    assert isinstance(manifest, Manifest)
    named = {content for names in manifest.resources.values() for content in names.values()}
    assert named == sent(shop)[BODY_TYPE].keys()
    assert set(sent(shop)[MANIFEST_TYPE]) == {"shop/cart"}
    for resource in shop.nodes["local"].rendered["shop/cart"]:
        content = manifest.resources[resource.type_url][resource.name]
        assert body(shop, BODY_TYPE, content) == resource.any
    apply(shop, file("", "/m/items.yaml"))
    assert sent(shop)[BODY_TYPE] == sent(shop)[MANIFEST_TYPE] == {}


def test_an_edited_rule_replaces_only_the_bodies_that_hold_it(shop: Pipeline) -> None:
    apply(shop, file(http_policy("/items"), "/m/items.yaml"))
    before = set(sent(shop)[BODY_TYPE])
    apply(shop, file(http_policy("/other"), "/m/items.yaml"))
    after = set(sent(shop)[BODY_TYPE])
    assert before & after
    assert before - after
    assert after - before


def test_changes_one_by_one_give_the_snapshot_of_all_at_once(tmp_path: Path) -> None:
    texts = [SHOP, http_policy(), policy("p"), policy("q", 81)]
    step = begun(tmp_path / "step")
    for index, text in enumerate(texts):
        apply(step, file(text, f"/m/{index}.yaml"))
    for placement in reversed(PLACEMENTS):
        apply(step, placement)
    apply(step, file(policy("extra"), "/m/extra.yaml"))
    apply(step, file("", "/m/extra.yaml"))
    fresh = Node(step.mesh, "local", default=True)
    tables = fresh.state.tables()
    assert tables == step.nodes["local"].state.tables()
    assert fresh.proxies == step.nodes["local"].node.proxies
    for table, records in tables.items():
        type_url = TABLE_TYPES[table]
        assert {name: encode(r) for name, r in records.items()} == {
            name: body(step, type_url, name) for name in sent(step)[type_url]
        }
    assert begun(tmp_path / "step", *PLACEMENTS).nodes["local"].digest == step.nodes["local"].digest


def test_a_process_killed_and_started_again_sends_the_same_versions(tmp_path: Path) -> None:
    first = begun(tmp_path, *PLACEMENTS, file(SHOP), file(http_policy(), "/m/items.yaml"))
    apply(first, file(policy("p"), "/m/p.yaml"))
    apply(first, file(policy("p", podSelector="all"), "/m/p.yaml"))
    second = begun(tmp_path, *PLACEMENTS)
    assert versions(second) == versions(first)
    assert second.generations.number == first.generations.number
    apply(second, file("", "/m/items.yaml"))
    assert second.generations.number == first.generations.number + 1


@pytest.mark.parametrize("killed_at", range(1, 40))
def test_killed_between_any_two_writes_the_next_process_arrives_at_the_same_mesh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    begun(tmp_path / "a", *PLACEMENTS, file(SHOP), file(policy("p") + "---\n" + policy("q"), "/m/p.yaml"))
    begun(tmp_path / "b", *PLACEMENTS, file(SHOP), file(policy("p") + "---\n" + policy("q"), "/m/p.yaml"))
    edits = [
        file(policy("p", 81) + "---\n" + policy("new"), "/m/p.yaml"),
        file(policy("p", podSelector="all") + "---\n" + policy("new"), "/m/p.yaml"),
        file(policy("p", 82) + "---\n" + http_policy(), "/m/p.yaml"),
    ]
    left = killed_at
    write, remove = atomic.write, atomic.remove

    class Killed(BaseException):
        pass

    def counted(act: Callable[..., None]) -> Callable[..., None]:
        def run(*arguments: Any) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Killed
            act(*arguments)

        return run

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write", counted(write))
        patch.setattr(atomic, "remove", counted(remove))
        with contextlib.suppress(Killed):
            pipeline = begun(tmp_path / "a", *PLACEMENTS)
            for edit in edits:
                apply(pipeline, edit)
    before = begun(tmp_path / "a", *PLACEMENTS)
    reached = before.generations.number
    whole = begun(tmp_path / "b", *PLACEMENTS)
    for pipeline in (before, whole):
        for edit in edits:
            apply(pipeline, edit)
    assert before.generations.number >= reached
    assert before.problems == whole.problems
    # Numbers may have been given in another order, what they stand for may not differ.
    assert before.mesh.vips == whole.mesh.vips
    assert dict(before.mesh.policies) == dict(whole.mesh.policies)
    again = begun(tmp_path / "a", *PLACEMENTS)
    assert versions(again) == versions(before)


# --- files ---------------------------------------------------------------------------------------


def test_what_vanishes_from_a_file_is_deleted_and_what_moved_to_another_is_not(shop: Pipeline) -> None:
    apply(shop, file(policy("p") + "---\n" + policy("q"), "/m/one.yaml"))
    apply(shop, file(policy("q"), "/m/two.yaml"))
    outcome = apply(shop, file("", "/m/one.yaml"))
    assert {str(ref): action for ref, action in outcome.actions.items()} == {
        "NetworkPolicy shop/p": "deleted"
    }
    assert [ref.name for ref in shop.mesh.policies] == ["q"]


def test_the_last_writer_wins_whoever_it_is(shop: Pipeline) -> None:
    ref = ObjectRef("NetworkPolicy", "shop", "p")
    text = policy("p", 1)
    for change in (file(text), Edit(set=objects(policy("p", 2))), file(text), Edit(delete=(ref,))):
        apply(shop, change)
        expected = change.documents.objects if isinstance(change, Bundle) else change.set
        assert all(map(shop.store.holds, expected)) if expected else shop.store.get(ref) is None


def test_what_is_missing_from_a_broken_file_stays(shop: Pipeline) -> None:
    apply(shop, file(policy("p") + "---\n" + policy("q"), "/m/one.yaml"))
    for broken in ("a: [", policy("p", 81) + "---\nkind: Oops\n"):
        apply(shop, file(broken, "/m/one.yaml"))
        assert {ref.name for ref in shop.mesh.policies} == {"p", "q"}
        assert [problem.object.kind for problem in shop.problems] == ["File"]
    apply(shop, file(policy("p", 81), "/m/one.yaml"))
    assert {ref.name for ref in shop.mesh.policies} == {"p"}
    assert shop.problems == []


BAD = {
    "a malformed file": ("a: [1\nb: 2", "File /m/bad.yaml", "line 2"),
    "an unknown kind": ("{apiVersion: v1, kind: Frob, metadata: {name: x}}", "Frob default/x", "kind"),
    "a bad operator": (
        policy("bad", podSelector={"matchExpressions": [{"key": "a", "operator": "Inn", "values": ["b"]}]}),
        "NetworkPolicy shop/bad",
        "operator",
    ),
    "host bits": (
        policy("bad", ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.1/8"}}]}]),
        "NetworkPolicy shop/bad",
        "cidr",
    ),
    "a regex that does not compile": (http_policy("(["), "CiliumNetworkPolicy shop/items", "path"),
    "a weight of -1": (
        """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: bad, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: "", name: web}]
  rules: [{backendRefs: [{name: web, port: 80, weight: -1}]}]
""",
        "HTTPRoute shop/bad",
        "weight",
    ),
    "two Services with one IP": (
        "\n---\n".join(
            f"{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: shop}},"
            " spec: {clusterIP: 10.128.9.9, ports: [{port: 80}]}}"
            for name in ("one", "two")
        ),
        "Service shop/two",
        "clusterIP",
    ),
    "a route to a Service that does not exist": (
        """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: bad, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: "", name: web}]
  rules: [{backendRefs: [{name: nowhere, port: 80}]}]
""",
        "HTTPRoute shop/bad",
        "backendRefs",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_a_named_problem_and_the_rest_is_applied(shop: Pipeline, case: str) -> None:
    text, name, where = BAD[case]
    apply(shop, file(text, "/m/bad.yaml"), file(policy("good"), "/m/good.yaml"))
    found = [problem for problem in shop.problems if str(problem.object) == name]
    assert any(where in problem.field for problem in found), shop.problems
    assert all(problem.message for problem in found)
    assert ObjectRef("NetworkPolicy", "shop", "good") in shop.mesh.policies
    apply(shop, file("", "/m/bad.yaml"))
    assert shop.problems == []


# --- when the disk is full -----------------------------------------------------------------------


def test_a_change_that_cannot_be_stored_is_not_in_force_and_the_one_beside_it_is(
    shop: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = atomic.write

    def full(path: Path, text: str) -> None:
        if path.name == "shop_p.yaml":
            raise OSError(28, "No space left on device")
        write(path, text)

    monkeypatch.setattr(atomic, "write", full)
    refused, accepted = shop.apply([[Edit(set=objects(policy("p")))], [Edit(set=objects(policy("q")))]])
    assert isinstance(refused, StoreFailed)
    assert isinstance(accepted, Outcome)
    assert [ref.name for ref in shop.mesh.policies] == ["q"]


def test_numbers_that_cannot_be_remembered_are_not_sent(
    shop: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = atomic.write
    broken = True

    def full(path: Path, text: str) -> None:
        if broken and path.name == "generation.json":
            raise OSError(28, "No space left on device")
        write(path, text)

    monkeypatch.setattr(atomic, "write", full)
    before = sent(shop)
    apply(shop, Edit(set=objects(policy("p"))))
    assert sent(shop) is before
    broken = False
    assert apply(shop, Edit(set=objects(policy("q")))).generation == 2
    assert len(sent(shop)[TABLE_TYPES["sets"]]) == 1


# --- the loop ------------------------------------------------------------------------------------


async def test_what_waits_together_becomes_one_generation(shop: Pipeline, published: list[str]) -> None:
    submitted = [asyncio.create_task(shop.submit(Edit(set=objects(policy(f"p{i}"))))) for i in range(9)]
    await asyncio.sleep(0)
    loop = asyncio.create_task(shop.run())
    outcomes = await asyncio.gather(*submitted)
    loop.cancel()
    assert {outcome.generation for outcome in outcomes} == {2}
    assert [list(outcome.actions.values()) for outcome in outcomes] == [["created"]] * 9
    assert published == ["local"]


def test_a_node_is_compiled_when_it_first_asks_and_hears_only_of_its_own_changes(
    shop: Pipeline, published: list[str]
) -> None:
    elsewhere = shop.snapshot_for("elsewhere")
    assert elsewhere is not None
    assert set(elsewhere[TABLE_TYPES["pods"]]) == {"shop/far"}
    web_only = policy("p", podSelector={"matchLabels": {"app": "web"}})
    apply(shop, file(web_only, "/m/p.yaml"))
    assert published == ["local"]
    assert shop.snapshot_for("elsewhere") is elsewhere


# --- allocations ---------------------------------------------------------------------------------


def test_allocations_are_kept_and_damage_is_not_papered_over(shop: Pipeline, tmp_path: Path) -> None:
    again = AllocationFile(tmp_path, RANGES)
    assert again.allocations.to_json() == shop.mesh.allocations.to_json()
    (tmp_path / "allocations.json").write_text("[]")
    with pytest.raises(ValueError, match="damaged"):
        AllocationFile(tmp_path, RANGES)


async def test_a_pod_that_waits_for_a_number_gets_it_when_one_is_free(
    shop: Pipeline, published: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = shop.mesh.allocations.security_ids
    ids.last = max(number for _, number, _ in ids.to_json())
    ids.quarantine = 0
    far = next(text for text in SHOP.split("---") if "name: far" in text)
    late = far.replace("far", "late").replace("cart", "late").replace("10.99.0.1", "10.99.0.2")
    apply(shop, Edit(set=objects(late)))
    assert any("no security id is left" in problem.message for problem in shop.problems)
    apply(shop, Edit(delete=(ObjectRef("Pod", "shop", "far"),)))
    monkeypatch.setattr("xds.pipeline._REST", 0.01)
    loop = asyncio.create_task(shop.run())
    async with asyncio.timeout(5):
        while any("no security id is left" in problem.message for problem in shop.problems):
            await asyncio.sleep(0.01)
    loop.cancel()
    assert WorkloadName("shop", "late") in shop.mesh.identities.of


def test_a_state_directory_has_one_writer(tmp_path: Path) -> None:
    lock(tmp_path / "state")
    with pytest.raises(Locked, match="another control plane"):
        lock(tmp_path / "state")


def test_who_comes_later_takes_over_from_nobody(shop: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several objects for one thing the oldest counts, whatever they are called."""

    def taking(name: str) -> tuple[ApiObject, ...]:
        head = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nspec: {mtls: {mode: STRICT}}"
        return objects(f"{head}\nmetadata: {{name: {name}, namespace: shop}}")

    hours = iter(range(24))
    monkeypatch.setattr(shop.store, "_now", lambda: datetime(2026, 1, 1, next(hours), tzinfo=UTC))
    for name in ("second-by-name", "first-by-name"):
        apply(shop, Edit(set=taking(name)))
    pod = WorkloadName("shop", "cart")
    found = shop.mesh.peer_authentications.asked(pod, 8080).origin
    assert found and found[0].name == "second-by-name"
