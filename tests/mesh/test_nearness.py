"""The order of backends, by tables: the examples of Istio's documentation and what its proxies are told."""

from __future__ import annotations

from fractions import Fraction

import pytest

from mesh.assemble import Mesh
from mesh.caller import Caller
from mesh.identity import Allocations
from mesh.model import (
    Backend,
    Balancer,
    Distribution,
    Fragment,
    Locality,
    LocalitySetting,
    MeshConfig,
    ObjectRef,
    OutlierDetection,
    Service,
    ServiceName,
    ServicePort,
    TrafficPolicy,
)
from mesh.proxy import Place
from mesh.routes.nearness import nearest, places, preferred
from mesh.topology import HOSTNAME, REGION, ZONE, labels_at

WEB = ServiceName("shop", "web")


def mesh(near: str = "", config: LocalitySetting | None = None, headless: bool = False) -> Mesh:
    found = Mesh(Allocations(("10.128.0.0/16",)))
    service = Service(WEB, (ServicePort("http", 80, "TCP", 80),), None, near=near, headless=headless)  # type: ignore[arg-type]
    fragments = {ObjectRef("Service", *WEB): Fragment(ObjectRef("Service", *WEB), (service,))}
    if config is not None:
        ref = ObjectRef("ConfigMap", "istio-system", "istio")
        fragments[ref] = Fragment(ref, (MeshConfig(locality=config),))
    found.apply(fragments)
    return found


def caller(place: str, **labels: str) -> Caller:
    own = labels_at(Locality.of(place)) | labels
    return Caller("shop", tuple(sorted(own.items())))


def backends(*where: str) -> list[Backend]:
    return [Backend(f"192.0.2.{n}", 80, locality=Locality.of(place)) for n, place in enumerate(where, 1)]


def policy(setting: LocalitySetting | None = None, *, watched: bool = False) -> TrafficPolicy:
    balancer = Balancer(locality=setting) if setting else None
    return TrafficPolicy(balancer, outliers=OutlierDetection() if watched else None)


def order(own: str, where: list[str], setting: LocalitySetting | None = None) -> dict[str, int] | None:
    """Place -> priority, with outlier detection."""
    found = preferred(mesh(), caller(own), WEB, policy(setting, watched=True), backends(*where))
    return None if found is None else {str(one.locality): one.priority for one in found}


EVERYWHERE = ["us/east/a", "us/east/b", "us/west/a", "eu/west/a", "ap/one/a"]


@pytest.mark.parametrize(
    ("own", "failover", "wanted"),
    [
        ("us/east/a", (), [0, 1, 2, 3, 3]),
        ("us/east", (), [0, 0, 1, 2, 2]),
        ("us/west/b", (), [1, 1, 0, 2, 2]),
        ("us/east/a", (("us", "eu"),), [0, 1, 2, 3, 4]),
        ("us/east/a", (("us", "ap"),), [0, 1, 2, 4, 3]),
        ("us/east/a", (("eu", "ap"),), [0, 1, 2, 3, 3]),
        ("ap/one/a", (("ap", "eu"),), [2, 2, 2, 1, 0]),
    ],
)
def test_the_nearest_come_first(own: str, failover: tuple[tuple[str, str], ...], wanted: list[int]) -> None:
    found = order(own, EVERYWHERE, LocalitySetting(failover=failover))
    assert found == dict(zip(EVERYWHERE, wanted, strict=True))


def test_who_is_nowhere_prefers_nobody_and_neither_does_who_has_no_choice() -> None:
    assert order("", EVERYWHERE) is None
    assert order("us/east/a", ["us/east/a", "us/east/a"]) is None
    assert order("us/east/a", ["eu/one", "eu/two"]) is None


def test_priorities_have_no_gap() -> None:
    assert order("us/east/a", ["us/east/a", "eu/one"]) == {"us/east/a": 0, "eu/one": 1}
    assert order("us/east/a", ["us/west", "eu/one"]) == {"us/west": 0, "eu/one": 1}


def labelled(*found: dict[str, str]) -> list[Backend]:
    return [Backend(f"192.0.2.{n}", 80, labels=tuple(sorted(own.items()))) for n, own in enumerate(found, 1)]


@pytest.mark.parametrize(
    ("priority", "own", "others", "wanted"),
    [
        # istio/api: "First N labels matched"; what follows one that differs does not count.
        (("a", "b"), {"a": "1", "b": "1"}, [{"a": "1", "b": "1"}, {"a": "1"}, {"b": "1"}, {}], [0, 1, 2, 2]),
        (("a", "b"), {"a": "1", "b": "1"}, [{"a": "2", "b": "1"}, {"a": "1", "b": "2"}], [1, 0]),
        (
            ("v=2", "a"),
            {"v": "1", "a": "1"},
            [{"v": "2", "a": "1"}, {"v": "2"}, {"v": "1", "a": "1"}],
            [0, 1, 2],
        ),
        # What both lack is alike, as in Istio ...
        (("a",), {}, [{}, {"a": "1"}], [0, 1]),
        # ... but for places.
        ((REGION,), {}, [{}, {REGION: "us"}], None),
        ((ZONE, HOSTNAME), {HOSTNAME: "n"}, [{HOSTNAME: "n", ZONE: "z"}, {HOSTNAME: "m"}], [0, 1]),
        ((ZONE, "v"), {ZONE: "z", "v": "1"}, [{ZONE: "y", "v": "1"}, {ZONE: "z", "v": "2"}], [1, 0]),
    ],
)
def test_labels_make_an_order(
    priority: tuple[str, ...], own: dict[str, str], others: list[dict[str, str]], wanted: list[int] | None
) -> None:
    who = Caller("shop", tuple(sorted(own.items())))
    found = preferred(mesh(), who, WEB, policy(LocalitySetting(priority=priority)), labelled(*others))
    assert (None if found is None else [one.priority for one in found]) == wanted


def test_labels_count_before_regions() -> None:
    setting = LocalitySetting(failover=(("us", "eu"),), priority=("v",))
    who = Caller("shop", tuple(sorted({"v": "1", REGION: "us"}.items())))
    others = labelled(
        {"v": "1", REGION: "us"}, {"v": "1", REGION: "ap"}, {REGION: "us"}, {"v": "1", REGION: "eu"}
    )
    found = preferred(mesh(), who, WEB, policy(setting), others)
    assert found is not None and [one.priority for one in found] == [0, 2, 3, 1]


# --- which setting counts ------------------------------------------------------------------------


NAMED = LocalitySetting(failover=(("us", "eu"),))
TWO = ["us/east", "eu/west"]


@pytest.mark.parametrize(
    ("found", "how", "counts"),
    [
        (mesh(), policy(), False),
        (mesh(), policy(watched=True), True),
        (mesh(), policy(LocalitySetting()), False),
        (mesh(), policy(LocalitySetting(), watched=True), True),
        (mesh(), policy(NAMED), True),
        (mesh(), policy(LocalitySetting(enabled=False), watched=True), False),
        (mesh(config=LocalitySetting(enabled=False)), policy(watched=True), False),
        (mesh(config=LocalitySetting(enabled=False)), policy(NAMED), True),
        (mesh(config=NAMED), policy(), False),
        (mesh(config=NAMED), policy(watched=True), True),
        (mesh(config=LocalitySetting(distribute=(Distribution("*", (("us", 100),)),))), policy(), True),
        (mesh("zone"), policy(), True),
        (mesh("zone"), policy(LocalitySetting(enabled=False)), False),
        (mesh("zone", LocalitySetting(enabled=False)), policy(), True),
        (mesh(headless=True), policy(NAMED), False),
    ],
)
def test_the_rules_setting_counts_then_the_services_then_the_meshs(
    found: Mesh, how: TrafficPolicy, counts: bool
) -> None:
    assert (preferred(found, caller("us/east"), WEB, how, backends(*TWO)) is not None) == counts


def test_a_service_prefers_zones_and_nodes_and_beyond_them_all_are_alike() -> None:
    where = labelled({ZONE: "a", HOSTNAME: "m"}, {ZONE: "a", HOSTNAME: "n"}, {ZONE: "b"}, {ZONE: "c"})
    who = Caller("shop", ((HOSTNAME, "n"), (ZONE, "a")))
    for near, wanted in (("zone", [0, 0, 1, 1]), ("node", [1, 0, 2, 2])):
        found = preferred(mesh(near), who, WEB, policy(), where)
        assert found is not None and [one.priority for one in found] == wanted


# --- shares --------------------------------------------------------------------------------------


def distribute(*rules: tuple[str, dict[str, int]]) -> LocalitySetting:
    return LocalitySetting(distribute=tuple(Distribution(f, tuple(to.items())) for f, to in rules))


#: istio/api, LocalityLoadBalancerSetting.Distribute.
ISTIOS = distribute(
    ("us-west/zone1/*", {"us-west/zone1/*": 80, "us-west/zone2/*": 20}),
    ("us-west/zone2/*", {"us-west/zone1/*": 20, "us-west/zone2/*": 80}),
    ("*", {"us-east": 60, "*": 40}),
)


@pytest.mark.parametrize(
    ("own", "where", "wanted"),
    [
        ("us-west/zone1/a", ["us-west/zone1/a", "us-west/zone2/b"], [80, 20]),
        ("us-west/zone2/a", ["us-west/zone1/a", "us-west/zone2/b"], [20, 80]),
        # A share is a place's, however many are there; who is in no place named gets nothing.
        ("us-west/zone1", ["us-west/zone1/a", "us-west/zone1/b", "us-west/zone2", "eu"], [40, 40, 20]),
        ("us-west/zone1", ["eu", "us-east"], []),
        ("eu/x", ["us-east/a", "eu", "ap"], [60, 20, 20]),
        ("", ["us-east/a", "eu"], None),
    ],
)
def test_places_get_their_share(own: str, where: list[str], wanted: list[int] | None) -> None:
    found = preferred(mesh(), caller(own), WEB, policy(ISTIOS), backends(*where))
    assert (None if found is None else [one.weight for one in found]) == wanted


def test_the_weights_of_backends_count_inside_a_place() -> None:
    one, two, three = backends("a/x", "a/x", "b")
    heavy = Backend(one.address, one.port, weight=3, locality=one.locality)
    found = nearest(
        mesh(), caller("a"), WEB, policy(distribute(("a", {"a": 80, "b": 20}))), (heavy, two, three)
    )
    assert found == ((heavy, Fraction(60)), (two, Fraction(20)), (three, Fraction(20)))


def test_each_family_has_its_own_nearest() -> None:
    """Who dials an IPv6 address is not helped by a near backend without one."""
    four, far = backends("us/east", "eu")
    six = Backend("fd00::2", 80, locality=far.locality)
    assert nearest(mesh("zone"), caller("us/east"), WEB, policy(NAMED), (four, far, six)) == (
        (four, Fraction(1)),
        (six, Fraction(1)),
    )


def test_an_envoy_gets_places_with_their_weight_in_each_part() -> None:
    found = backends("a", "a", "b")
    known = preferred(mesh(), caller("a"), WEB, policy(distribute(("a", {"a": 50, "b": 50}))), found)
    assert known is not None
    one, two, three = found
    together = places(known, dict.fromkeys(found, 0))
    assert together == {
        one: Place(0, Locality("a"), 1),
        two: Place(0, Locality("a"), 1),
        three: Place(0, Locality("b"), 1),
    }
    apart = places(known, {one: 300, two: 0, three: 0})
    assert apart == {
        one: Place(0, Locality("a"), 1),
        two: Place(0, Locality("a"), 1),
        three: Place(0, Locality("b"), 2),
    }
