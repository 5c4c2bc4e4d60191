from __future__ import annotations

from mesh.answers.groups import Group, outside_groups, workload_groups
from mesh.model import Fragment, Node, ObjectRef, WorkloadName
from tests.mesh.shop import SHOP, mesh_of


def pod(name: str, address: str, labels: str, namespace: str = "shop") -> str:
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {labels}}}
spec: {{nodeName: here, containers: [{{name: c, command: ["true"]}}]}}
status: {{podIPs: [{{ip: {address}}}], conditions: [{{type: Ready, status: "True"}}]}}
"""


def blocks(*cidrs: str, name: str = "b", exceptions: str = "") -> str:
    peers = ", ".join(f"{{ipBlock: {{cidr: {cidr}{exceptions}}}}}" for cidr in cidrs)
    return f"""
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: {name}, namespace: shop}}
spec: {{podSelector: {{}}, ingress: [{{from: [{peers}]}}]}}
"""


def names(groups: tuple[Group, ...]) -> list[str]:
    return [group.name for group in groups]


def test_pods_of_one_identity_are_one_group_with_the_name_of_their_deployment() -> None:
    hash1, hash2 = "{app: web, pod-template-hash: 7d4b9}", "{app: web, pod-template-hash: 55c8f}"
    mesh = mesh_of(pod("web-7d4b9-x1", "10.64.0.2", hash1), pod("web-55c8f-x2", "10.64.0.3", hash2))
    (group,) = workload_groups(mesh)
    assert group.name == "shop/web"
    assert [member.name for member in group.members] == ["web-55c8f-x2", "web-7d4b9-x1"]


def test_pods_without_an_owner_are_named_by_what_they_have_in_common() -> None:
    mesh = mesh_of(pod("a", "10.64.0.2", "{app: api}"), pod("b", "10.64.0.3", "{app: api}"))
    assert names(workload_groups(mesh)) == ["shop/api"]
    mesh = mesh_of(pod("a", "10.64.0.2", "{x: y}"), pod("b", "10.64.0.3", "{x: y}"))
    assert names(workload_groups(mesh)) == ["shop/a+1"]


def test_groups_of_one_name_are_told_apart_by_what_differs() -> None:
    labels = "{app: web, version: %s, pod-template-hash: %s}"
    mesh = mesh_of(
        pod("web-aa-1", "10.64.0.2", labels % ("v1", "aa")),
        pod("web-bb-1", "10.64.0.3", labels % ("v2", "bb")),
    )
    assert names(workload_groups(mesh)) == ["shop/web[version=v1]", "shop/web[version=v2]"]


def test_an_ip_block_that_covers_one_of_two_alike_parts_them() -> None:
    """Rule 17: ipBlock matches pods by their addresses."""
    pods = pod("a", "10.64.0.2", "{app: api}"), pod("b", "10.64.0.3", "{app: api}")
    groups = workload_groups(mesh_of(*pods, blocks("10.64.0.2/32")))
    assert names(groups) == ["shop/a", "shop/b"]


def test_what_a_service_calls_a_port_parts_pods_that_are_otherwise_alike() -> None:
    """Rule 21: authorization depends on it. A label that is no part of identity may choose."""
    service = """
apiVersion: v1
kind: Service
metadata: {name: s, namespace: shop}
spec: {selector: {pod-template-hash: aa}, ports: [{name: http, port: 80}]}
"""
    pods = pod("a", "10.64.0.2", "{pod-template-hash: aa}"), pod("b", "10.64.0.3", "{pod-template-hash: bb}")
    assert len(workload_groups(mesh_of(*pods))) == 1
    assert len(workload_groups(mesh_of(*pods, service))) == 2


def test_groups_of_two_meshes_are_alike_in_both() -> None:
    one, two = "{app: web, v: '1', pod-template-hash: aa}", "{app: web, v: '2', pod-template-hash: aa}"
    old = mesh_of(pod("web-aa-1", "10.64.0.2", one), pod("web-aa-2", "10.64.0.3", one))
    new = mesh_of(
        pod("web-aa-1", "10.64.0.2", one), pod("web-aa-2", "10.64.0.3", two), pod("c", "10.64.0.4", "{}")
    )
    assert [len(workload_groups(*meshes)) for meshes in ((old,), (new,), (old, new), (new, old))] == [
        1,
        3,
        2,
        2,
    ]


def test_the_world_is_cut_along_the_blocks_that_policies_name() -> None:
    mesh = mesh_of(SHOP, blocks("203.0.113.0/24"), blocks("203.0.113.0/28", name="c"))
    assert names(outside_groups(mesh)) == ["203.0.113.0/24", "203.0.113.0/28", "world"]
    wide, narrow, world = outside_groups(mesh)
    assert narrow.outside.addresses == ("203.0.113.0",)
    assert wide.outside.addresses == ("203.0.113.16",)
    assert world.outside.addresses == ("192.0.2.1", "2001:db8::1")


def test_blocks_of_one_rule_are_one_group() -> None:
    many = [f"198.51.{number}.0/24" for number in range(200)]
    group, _ = outside_groups(mesh_of(SHOP, blocks(*many)))
    assert group.name == "198.51.0.0/24, 198.51.1.0/24 +198"
    assert set(group.blocks) == set(many)


def test_an_exception_belongs_to_the_rest_of_the_world() -> None:
    text = blocks("203.0.113.0/24", exceptions=", except: [203.0.113.64/26]")
    block, world = outside_groups(mesh_of(SHOP, text))
    assert block.blocks == ("203.0.113.0/24",)
    assert "203.0.113.64/26" in world.blocks


def test_an_address_that_is_nobodys_stands_for_a_block() -> None:
    block, _ = outside_groups(mesh_of(SHOP, blocks("10.64.0.12/30")))  # .12 and .13 are pods
    assert block.outside.addresses == ("10.64.0.14",)
    assert names(outside_groups(mesh_of(SHOP, blocks("10.64.0.12/31")))) == ["world"]


def test_nodes_are_groups_of_their_own() -> None:
    mesh = mesh_of(SHOP)
    for number in (1, 2):
        ref = ObjectRef("Node", "", f"n{number}")
        mesh.apply({ref: Fragment(ref, (Node(ref.name, (), (f"192.168.0.{number}",)),))})
    nodes, _ = outside_groups(mesh)
    assert (nodes.kind, nodes.name, nodes.blocks) == ("node", "other nodes", ("192.168.0.1", "192.168.0.2"))


def test_a_group_survives_json_but_for_who_stands_for_it() -> None:
    group = Group("workloads", "shop/web", (WorkloadName("shop", "web"),))
    assert Group.from_plain(group.plain()) == group
