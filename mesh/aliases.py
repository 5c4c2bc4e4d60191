"""Where Services of type ExternalName lead (rule 24): each is a name for another name, and nothing more.

Who asks the resolver for one gets the addresses of the name at the end. A VirtualService that sends to one
means the service there, as in Istio (ENABLE_EXTERNAL_NAME_ALIAS). A route of the Gateway API means nobody:
such names are not safe to forward to (BackendObjectReference; CVE-2021-25740). Knows no address.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice

from mesh.index import discard
from mesh.model import Alias, ObjectRef, Problem, Route, ServiceName, service_of

#: Aliases in a row. One that needs more leads nowhere, as with other resolvers.
LONGEST = 8


class Aliases:
    def __init__(self) -> None:
        self._of: dict[ServiceName, Alias] = {}
        #: Host -> the aliases that stand for it.
        self._for: defaultdict[str, set[ServiceName]] = defaultdict(set)

    # --- reading -----------------------------------------------------------------------------

    def __contains__(self, name: ServiceName) -> bool:
        return name in self._of

    def __iter__(self) -> Iterator[ServiceName]:
        return iter(self._of)

    def target(self, name: ServiceName) -> str:
        """The host for which an alias stands itself; empty of what is no alias."""
        found = self._of.get(name)
        return found.target if found else ""

    def end(self, name: ServiceName) -> str:
        """The host at the end of an alias, over those in between; empty if they have no end, or a far one."""
        way = list(islice(self._way(name), LONGEST + 1))
        if not way:
            return name.host
        last = way[-1].target
        return "" if len(way) > LONGEST or service_of(last) in self._of else last

    def _way(self, name: ServiceName | None) -> Iterator[Alias]:
        """The aliases in a row, none of them twice."""
        told: set[ServiceName] = set()
        while name in self._of and name not in told:
            told.add(name)
            yield self._of[name]
            name = service_of(self._of[name].target)

    def meant(self, name: ServiceName) -> ServiceName:
        """The service at the end, or what would be it; the alias itself where no service can be."""
        host = self.end(name) if name in self._of else ""
        if "." not in host:
            return name
        return service_of(host) or ServiceName(name.namespace, host)

    def sent_to(self, route: Route, name: ServiceName) -> ServiceName:
        """The service that a route means where it names this one as where it sends."""
        return self.meant(name) if route.in_order else name

    def standing_for(self, names: Iterable[ServiceName]) -> set[ServiceName]:
        """These, and every alias that leads to one of them."""
        found = set(names)
        rest = list(found)
        while rest:
            new = self._for.get(rest.pop().host, set()) - found
            found |= new
            rest += new
        return found

    def problems(self, name: ServiceName) -> Iterator[Problem]:
        """What is wrong with an alias."""
        if not self.end(name):
            target = self.target(name)
            text = (
                f"{target} leads back to an alias before it, or over more than {LONGEST} of them: the name "
            )
            yield Problem(ObjectRef("Service", *name), "spec.externalName", f"{text}resolves to nothing")

    # --- changing ----------------------------------------------------------------------------

    def put(self, alias: Alias) -> set[ServiceName]:
        """Take in an alias. Returns those that lead to it, and itself."""
        self._of[alias.name] = alias
        self._for[alias.target].add(alias.name)
        return self.standing_for([alias.name])

    def remove(self, name: ServiceName) -> set[ServiceName]:
        """Forget an alias. Returns those that led to it, and itself."""
        discard(self._for, self._of.pop(name).target, name)
        return self.standing_for([name])
