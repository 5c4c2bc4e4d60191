"""The filters of `sluice proxy-config`, under istioctl's names. None asks for nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which resources of a section to show: those that fit every filter that is set."""

    fqdn: str | None = None
    port: int | None = None
    subset: str | None = None
    direction: str | None = None
    address: str | None = None
    type: str | None = None
    route: str | None = None
    cluster: str | None = None
    status: str | None = None


def same(wanted: str | None, found: str) -> bool:
    """Does a text fit a filter? Letters count alike in both cases."""
    return wanted is None or wanted.lower() == found.lower()


def within(wanted: str | None, found: str) -> bool:
    """Is a filter's text part of another?"""
    return wanted is None or wanted.lower() in found.lower()
