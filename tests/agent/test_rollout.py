"""The rollout machine by itself: who is served what, and when the kernel may flip."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.model import WorkloadName
from mesh.node import Manifest
from mesh.rollout import LINGER, Rollout

WEB = WorkloadName("shop", "web")
CART = WorkloadName("shop", "cart")
LDS = "lds"


def manifest(pod: WorkloadName, **listeners: str) -> list[Manifest]:
    return [Manifest(pod, {LDS: listeners})]


def in_force(number: int, manifests: list[Manifest]) -> Rollout:
    rollout = Rollout()
    rollout.want(number, manifests, now=0)
    pods = [manifest.pod for manifest in manifests]
    for pod in pods:
        get_ready(rollout, pod)
    assert rollout.may_flip(0, pods)
    flip(rollout)
    for pod in pods:
        get_ready(rollout, pod)
    return rollout


def flip(rollout: Rollout) -> None:
    rollout.flipped(0)
    rollout.tick(LINGER)


def served(rollout: Rollout, pod: WorkloadName = WEB) -> dict[str, str]:
    serving = rollout.serving(pod)
    assert serving is not None
    return dict(serving.resources.get(LDS, {}))


def get_ready(rollout: Rollout, pod: WorkloadName = WEB) -> None:
    serving = rollout.serving(pod)
    assert serving is not None
    for type_url, versions in serving.resources.items():
        rollout.accepted(pod, type_url, versions)
    rollout.ready(pod, serving.revision)


def test_a_proxy_serves_old_and_new_until_the_flip_and_the_new_alone_after_it() -> None:
    rollout = in_force(1, manifest(WEB, a="a1", b="b1"))
    rollout.want(2, manifest(WEB, b="b2", c="c2"), now=10)
    assert served(rollout) == {"a": "a1", "b": "b2", "c": "c2"}
    assert not rollout.may_flip(10, [WEB])
    get_ready(rollout)
    assert rollout.may_flip(10, [WEB])
    rollout.flipped(10)
    rollout.tick(10)
    assert served(rollout) == {"a": "a1", "b": "b2", "c": "c2"}, "some connections are not accepted yet"
    assert rollout.deadline() == 10 + LINGER
    rollout.tick(10 + LINGER)
    assert served(rollout) == {"b": "b2", "c": "c2"}
    assert rollout.deadline() is None


def test_the_kernel_flips_without_a_proxy_that_is_not_ready_in_time_and_does_not_wait_for_it_again() -> None:
    rollout = in_force(1, manifest(WEB, a="a1"))
    rollout.want(2, manifest(WEB, a="a2"), now=10)
    assert not rollout.may_flip(14.9, [WEB])
    assert rollout.deadline() == 15
    assert rollout.may_flip(15, [WEB])
    flip(rollout)
    rollout.want(3, manifest(WEB, a="a3"), now=16)
    assert rollout.may_flip(16, [WEB])


def test_a_proxy_that_recovered_is_waited_for_again() -> None:
    rollout = in_force(1, manifest(WEB, a="a1"))
    rollout.want(2, manifest(WEB, a="a2"), now=0)
    flip(rollout)
    get_ready(rollout)
    rollout.want(3, manifest(WEB, a="a3"), now=20)
    assert not rollout.may_flip(20, [WEB])


def test_a_pod_that_is_not_on_this_machine_yet_is_not_waited_for() -> None:
    rollout = Rollout()
    rollout.want(1, manifest(WEB, a="a1"), now=0)
    assert rollout.may_flip(0, [])


def test_a_report_about_an_earlier_revision_does_not_make_a_proxy_ready() -> None:
    rollout = in_force(1, manifest(WEB, a="a1"))
    earlier = rollout.serving(WEB)
    assert earlier is not None
    rollout.want(2, manifest(WEB, a="a2"), now=0)
    rollout.ready(WEB, earlier.revision)
    assert not rollout.is_ready(WEB)


def test_of_a_refused_resource_the_last_good_version_stays_and_the_rest_goes_on() -> None:
    rollout = in_force(1, manifest(WEB, a="a1", b="b1"))
    rollout.want(2, manifest(WEB, a="a2", b="b2"), now=0)
    rollout.refused(WEB, LDS, "a", "no such filter")
    assert served(rollout) == {"a": "a1", "b": "b2"}
    (refusal,) = rollout.refusals()
    assert (refusal.name, refusal.hash, refusal.error) == ("a", "a2", "no such filter")
    get_ready(rollout)
    assert rollout.may_flip(0, [WEB])


def test_a_refused_new_resource_is_left_out_and_the_old_neighbours_stay() -> None:
    rollout = in_force(1, manifest(WEB, a="a1", gone="g1"))
    rollout.want(2, manifest(WEB, a="a1", new="n2"), now=0)
    rollout.refused(WEB, LDS, "new", "bad")
    get_ready(rollout)
    flip(rollout)
    assert served(rollout) == {"a": "a1", "gone": "g1"}


def test_a_corrected_resource_is_served_and_its_refusal_forgotten() -> None:
    rollout = in_force(1, manifest(WEB, a="a1", gone="g1"))
    rollout.want(2, manifest(WEB, a="bad"), now=0)
    rollout.refused(WEB, LDS, "a", "bad")
    get_ready(rollout)
    flip(rollout)
    rollout.want(3, manifest(WEB, a="a3"), now=0)
    assert served(rollout) == {"a": "a3", "gone": "g1"}
    get_ready(rollout)
    flip(rollout)
    assert served(rollout) == {"a": "a3"}
    assert rollout.refusals() == ()


def test_a_restarted_envoy_that_refuses_new_and_old_is_served_neither() -> None:
    rollout = in_force(1, manifest(WEB, a="a1"))
    rollout.want(2, manifest(WEB, a="a2"), now=0)
    rollout.refused(WEB, LDS, "a", "first")
    rollout.refused(WEB, LDS, "a", "second")
    assert served(rollout) == {}
    assert {(r.hash, r.error) for r in rollout.refusals()} == {("a1", "second"), ("a2", "first")}


def test_a_proxy_that_is_no_longer_needed_keeps_what_it_has_until_it_is_forgotten() -> None:
    rollout = in_force(1, manifest(WEB, a="a1") + manifest(CART, c="c1"))
    rollout.want(2, manifest(CART, c="c1"), now=0)
    assert rollout.needed == {WEB, CART}, "the kernel steers to it until it flips"
    assert rollout.may_flip(0, [WEB, CART])
    flip(rollout)
    assert rollout.needed == {CART}
    assert served(rollout) == {"a": "a1"}
    rollout.forget(WEB)
    assert rollout.serving(WEB) is None


def test_an_adopted_generation_is_served_at_once_without_a_flip() -> None:
    rollout = Rollout()
    rollout.adopt(manifest(WEB, a="a1"))
    assert rollout.warming is None
    assert served(rollout) == {"a": "a1"}
    assert rollout.in_use() == {"a1"}


NAMES = st.sampled_from("abcd")
VERSIONS = st.integers(1, 3)
GENERATIONS = st.lists(st.dictionaries(NAMES, VERSIONS), min_size=1, max_size=6)


@given(GENERATIONS, st.sets(st.tuples(NAMES, VERSIONS), max_size=4), st.data())
def test_whatever_the_kernel_may_steer_to_is_served_unless_the_proxy_refused_it(
    generations: list[dict[str, int]], bad: set[tuple[str, int]], data: st.DataObject
) -> None:
    rollout = Rollout()
    kernel: set[str] = set()
    for number, listeners in enumerate(generations, 1):
        versions = {name: f"{name}{version}" for name, version in listeners.items()}
        rollout.want(number, manifest(WEB, **versions), now=0)
        while not rollout.is_ready(WEB):
            refused = [(n, v) for n, v in served(rollout).items() if (n, int(v[1:])) in bad]
            for name, _ in refused:
                rollout.refused(WEB, LDS, name, "bad")
            if not refused:
                get_ready(rollout)
        assert (kernel | versions.keys()) - {n for n, _ in bad} <= served(rollout).keys()
        if data.draw(st.booleans()):
            rollout.down(WEB)
        flip(rollout)
        kernel = set(versions)
        assert kernel - {n for n, _ in bad} <= served(rollout).keys()
        assert all((n, int(v[1:])) not in bad for n, v in served(rollout).items() if n in kernel)
