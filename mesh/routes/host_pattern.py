"""Hosts of Istio's kinds: a full DNS name, `*.` and a suffix, or `*`. Pure text; knows no service."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def is_pattern(host: str) -> bool:
    return host.startswith("*")


def covers(pattern: str, host: str) -> bool:
    """Does a host, or every host that a pattern `host` stands for, fit the pattern?"""
    if not is_pattern(pattern):
        return pattern == host
    return host.removeprefix("*").endswith(pattern[1:])


def covering(host: str) -> Iterator[str]:
    """What covers a host, or every host of a pattern: itself first, `*` last."""
    yield host
    labels = host.removeprefix("*.").split(".")
    for at in range(1, len(labels)):
        yield ".".join(("*", *labels[at:]))
    if host != "*":
        yield "*"


def specificity(pattern: str) -> tuple[bool, int]:
    """Sorts the most specific first: names, then the longest suffix (istio/api, VirtualService.hosts)."""
    return is_pattern(pattern), -len(pattern)


def narrowest(patterns: Iterable[str], host: str) -> str:
    """The most specific of those that cover a host, of which there must be one."""
    return min((pattern for pattern in patterns if covers(pattern, host)), key=specificity)
