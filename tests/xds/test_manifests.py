"""Names of resources dealt out to pages: nothing is lost, a small change is a small push."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.discovery.envoy import CLUSTER, ENDPOINTS
from mesh.model import WorkloadName
from mesh.node import Manifest
from mesh.resources import MANIFEST_TYPE, decode, encode
from xds.manifests import Manifests, difference, pod_of
from xds.render import EnvoyResource, Rendered

POD = WorkloadName("shop", "web")
Pages = dict[str, Manifest]
Contents = dict[str, dict[str, str]]


class Sent:
    """What was said of one pod, and what an agent makes of it."""

    def __init__(self) -> None:
        self.rendered: Rendered = ()
        self.pages: Pages = {}
        self._manifests = Manifests()

    def serve(self, rendered: Rendered) -> dict[str, Manifest | None]:
        news = self._manifests.update(POD, *difference(self.rendered, rendered), len(rendered))
        self.rendered = rendered
        for name, page in news.items():
            if page is None:
                del self.pages[name]
            else:
                self.pages[name] = page
        return news

    @property
    def contents(self) -> Contents:
        found: Contents = {}
        for page in self.pages.values():
            for type_url, names in page.resources.items():
                assert not found.setdefault(type_url, {}).keys() & names.keys(), "a name stands on one page"
                found[type_url].update(names)
        return found

    def end(self) -> dict[str, Manifest | None]:
        return self._manifests.remove(POD)


def resource(number: int, content: int = 0) -> EnvoyResource:
    type_url = (CLUSTER, ENDPOINTS)[number % 2]
    return EnvoyResource(type_url, f"outbound|{number}", f"{number} {content}".encode(), ())


def contents(rendered: Rendered) -> Contents:
    found: Contents = {}
    for one in rendered:
        found.setdefault(one.type_url, {})[one.name] = one.digest
    return found


#: Number of a resource -> its content. Few enough for one page, or enough for many.
STATES = st.integers(0, 400).flatmap(
    lambda most: st.dictionaries(st.integers(0, most), st.integers(0, 1), max_size=400)
)


@given(st.lists(STATES, min_size=1, max_size=6))
def test_pages_hold_what_is_served_and_are_as_if_made_anew(states: list[dict[int, int]]) -> None:
    known = {(number, content): resource(number, content) for number in range(401) for content in (0, 1)}
    sent = Sent()
    for state in states:
        rendered = tuple(known[one] for one in sorted(state.items()))
        sent.serve(rendered)
        assert sent.contents == contents(rendered)
        anew = Sent()
        anew.serve(rendered)
        assert {name: encode(page) for name, page in sent.pages.items()} == {
            name: encode(page) for name, page in anew.pages.items()
        }
    assert sent.pages and all(pod_of(name) == "shop/web" for name in sent.pages)
    assert sent.end() == dict.fromkeys(sent.pages)


def test_of_thousands_a_change_sends_one_page() -> None:
    resources = [resource(number) for number in range(6000)]
    sent = Sent()
    assert len(sent.serve(tuple(resources))) == 128
    resources[4711] = resource(4711, 1)
    (page,) = sent.serve(tuple(resources)).values()
    assert page is not None and sum(map(len, page.resources.values())) < 100
    assert decode(MANIFEST_TYPE, encode(page)) == page


def test_a_small_pod_has_one_page_under_its_own_name() -> None:
    sent = Sent()
    assert set(sent.serve(())) == {"shop/web"}
    assert set(sent.serve(tuple(map(resource, range(64))))) == {"shop/web"}
    news = sent.serve(tuple(map(resource, range(65))))
    assert news["shop/web"] is None and set(sent.pages) == {"shop/web/1of2", "shop/web/2of2"}
