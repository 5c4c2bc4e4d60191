"""Answers for the mesh's own names and for those of ServiceEntries (`mesh.dns.Zone`), with authority. Knows
no policy and no socket."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

import dns.name
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset

from mesh.asked_hosts import patterns_of
from mesh.dns import CLUSTER_DOMAIN, SPECIFICATION, Zone
from mesh.dns_name import canonical, is_name

#: Seconds that callers may keep what we say of the mesh, also that there is nothing (CoreDNS: 5).
TTL = 5

_SERVER = f"ns.dns.{CLUSTER_DOMAIN}"
_SOA = f"{_SERVER}. hostmaster.{CLUSTER_DOMAIN}. 1 7200 1800 86400 {TTL}"
#: Of the full name of a Service.
_SERVICE_LABELS = len(f"name.namespace.svc.{CLUSTER_DOMAIN}".split("."))
_VERSION = f"dns-version.{CLUSTER_DOMAIN}"


@dataclass(frozen=True, slots=True)
class Reply:
    """The sections of an answer, before they are a message."""

    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    answer: tuple[dns.rrset.RRset, ...] = ()
    authority: tuple[dns.rrset.RRset, ...] = ()
    authoritative: bool = False


class Authority:
    """The zone `cluster.local`, other hosts that the mesh has addresses for, and the reverse names of those
    addresses."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._pointers = {
            canonical(dns.reversename.from_address(address).to_text()): name
            for address, name in zone.pointers.items()
        }
        self._aliases_of: defaultdict[str, list[str]] = defaultdict(list)
        for name, target in zone.aliases.items():
            self._aliases_of[target].append(name)
        # RFC 8020: a name below which there is one exists.
        self._names = {CLUSTER_DOMAIN, _VERSION, _SERVER, f"svc.{CLUSTER_DOMAIN}"}
        for name in (*zone.addresses, *zone.servers, *zone.aliases):
            while is_inside(name) and name not in self._names:
                self._names.add(name)
                name = name.partition(".")[2]

    @staticmethod
    def from_json(text: bytes) -> Authority:
        """Raises ValueError."""
        return Authority(Zone.from_json(text))

    @property
    def upstream(self) -> tuple[str, ...]:
        """Names for whose addresses we ask, whoever else does."""
        return self._zone.upstream

    def owns(self, name: str, namespace: str = "") -> bool:
        """Is it for us to say to a pod of a namespace what a canonical name is?"""
        return is_inside(name) or name in self._pointers or self._addresses(name, namespace) is not None

    def invites(self, name: str, namespace: str | None = None) -> bool:
        """Does a name become one of the mesh if a pod of the namespace (None: of some) asks for it? Only
        what may be a host's: wildcards of the world have addresses for whatever a pod makes up."""
        if not is_name(name):
            return False
        found = (self._zone.patterns.get(above, ()) for above in patterns_of(name))
        return any(to and (namespace is None or {"*", namespace} & {*to}) for to in found)

    def widened_by(self, name: str, namespace: str) -> str:
        """The host of the service at a name, if looking it up widens what pods of the namespace are told of,
        or "". Names of single pods are of their service."""
        if not {"*", namespace} & set(self._zone.widening) or self._addresses(name, namespace) is None:
            return ""
        return ".".join(name.split(".")[-_SERVICE_LABELS:]) if is_inside(name) else name

    def alias(self, name: str) -> str:
        """The name for which a canonical name stands; empty if it is no alias."""
        return self._zone.aliases.get(name, "")

    def names_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """These, and every alias that leads to one of them."""
        found = dict.fromkeys(names)
        rest = list(found)
        while rest:
            new = [alias for alias in self._aliases_of.get(rest.pop(), ()) if alias not in found]
            found |= dict.fromkeys(new)
            rest += new
        return tuple(found)

    def exists(self, name: str) -> bool:
        return name in self._names or name in self._pointers

    def answer(
        self, qname: dns.name.Name, name: str, kind: dns.rdatatype.RdataType, namespace: str = ""
    ) -> Reply:
        """What there is of a kind at a name that we own, under the name as it was asked for."""
        values = self._values(name, kind, namespace)
        if values:
            random.shuffle(values)
            rrset = dns.rrset.from_text_list(qname, TTL, "IN", dns.rdatatype.to_text(kind), values)
            return Reply(answer=(rrset,), authoritative=True)
        known = self.exists(name) or self._addresses(name, namespace) is not None
        rcode = dns.rcode.NOERROR if known else dns.rcode.NXDOMAIN
        soa = dns.rrset.from_text(f"{CLUSTER_DOMAIN}.", TTL, "IN", "SOA", _SOA)
        return Reply(rcode, authority=(soa,), authoritative=True)

    def _addresses(self, name: str, namespace: str) -> tuple[str, ...] | None:
        own = self._zone.scoped.get(namespace, {}).get(name)
        return self._zone.addresses.get(name) if own is None else own

    def _values(self, name: str, kind: dns.rdatatype.RdataType, namespace: str) -> list[str]:
        match kind:
            case dns.rdatatype.A:
                return list(_family(4, self._addresses(name, namespace) or ()))
            case dns.rdatatype.AAAA:
                return list(_family(6, self._addresses(name, namespace) or ()))
            case dns.rdatatype.CNAME:
                return [f"{target}."] if (target := self.alias(name)) else []
            case dns.rdatatype.SRV:
                return [f"0 100 {s.port} {s.target}." for s in self._zone.servers.get(name, ())]
            case dns.rdatatype.PTR:
                return [f"{self._pointers[name]}."] if name in self._pointers else []
            case dns.rdatatype.TXT if name == _VERSION:
                return [SPECIFICATION]
            case dns.rdatatype.SOA if name == CLUSTER_DOMAIN:
                return [_SOA]
            case dns.rdatatype.NS if name == CLUSTER_DOMAIN:
                return [f"{_SERVER}."]
        return []


def is_inside(name: str) -> bool:
    """Is a canonical name in the mesh's own zone?"""
    return name == CLUSTER_DOMAIN or name.endswith(f".{CLUSTER_DOMAIN}")


def _family(version: int, addresses: Iterable[str]) -> Iterable[str]:
    return (address for address in addresses if ip_address(address).version == version)
