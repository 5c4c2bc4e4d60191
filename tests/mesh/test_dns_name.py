"""Cilium's matchName and matchPattern (pkg/fqdn/matchpattern)."""

from __future__ import annotations

import pytest

from mesh.dns_name import canonical, is_name, is_pattern, matches
from mesh.model import NamePattern


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("example.com", ["example.com"], ["www.example.com", "examplexcom", "example.com.evil"]),
        ("*.example.com", ["www.example.com", "a-1_b.example.com"], ["example.com", "a.b.example.com"]),
        (
            "api*.example.com",
            ["api.example.com", "api-2.example.com"],
            ["xapi.example.com", "api.x.example.com"],
        ),
        ("*example.com", ["example.com", "my-example.com"], ["www.example.com"]),
        (
            "**.example.com",
            ["a.example.com", "a.b.c.example.com"],
            ["example.com", "aexample.com", ".example.com"],
        ),
        ("sub*.*.com", ["sub.a.com", "sub1.b.com"], ["sub.com", "sub.a.b.com"]),
        ("*", ["com", "a.b.c", ""], ["a..b", "a b"]),
    ],
)
def test_a_star_stays_in_its_label_and_two_lead_whole_labels(
    pattern: str, yes: list[str], no: list[str]
) -> None:
    assert all(matches(NamePattern(pattern), name) for name in yes)
    assert not any(matches(NamePattern(pattern), name) for name in no)


def test_names_are_compared_in_lower_case_without_the_final_dot() -> None:
    assert canonical("WWW.Example.COM.") == "www.example.com"


def test_only_the_characters_of_names_may_be_written() -> None:
    assert is_name("a_b-c.example.com") and not is_name("*.example.com") and not is_name("a b")
    assert is_pattern("*.example.com") and not is_pattern("(a|b).com") and not is_pattern("")
