"""N05 (CVE-2021-39155): a host is one host in whatever case, with or without the final dot of the root.

Routes do not ask for a host (rule 4: the address that was dialled has chosen), so no spelling leads
elsewhere; rules about hosts have to see through all of them.
"""

from __future__ import annotations

import pytest

from tests.threats.http.application import Application
from tests.threats.http.served import Served, policy, to
from tests.threats.http.speaking import ask, ask2, fields, get
from tests.xds.render.conftest import Serve

SPELLINGS = (
    *("secret.com", "Secret.com", "SECRET.COM", "sEcReT.cOm", "secret.com.", "SECRET.com."),
    *("xn--scret-bsa.com", "XN--SCRET-BSA.COM", "Xn--sCret-bsa.Com."),
)
OTHERS = ("public.com", "secret.comm", "secretxcom", "xsecret.org", "xn--secret.com.org")

#: Each is about all of the former and none of the latter.
HOSTS = {
    "exact": ["secret.com", "xn--scret-bsa.com"],
    "written in capitals": ["SECRET.COM", "Xn--Scret-bsa.com"],
    "prefix": ["secret.com*", "XN--scret-bsa.*"],
    "suffix": ["*ecret.com", "*SCRET-bsa.com"],
}


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize(("action", "field"), [("DENY", "hosts"), ("ALLOW", "notHosts")])
def test_no_spelling_of_a_host_walks_round_a_rule(
    action: str, field: str, name: str, serve: Serve, application: Application
) -> None:
    port = Served(serve, application.port, policy(action, to(**{field: HOSTS[name]}))).port()
    # A prefix is one of longer names too.
    others = [host for host in OTHERS if not (name == "prefix" and host.startswith("secret.com"))]
    for host in (*SPELLINGS, *others):
        wanted = 403 if host in SPELLINGS else 200
        absolute = get(f"http://{host}/", host="public.com")
        found = [ask(port, get("/", host=host)), ask(port, absolute), ask2(port, fields("/", host=host))]
        assert found == [wanted] * 3, host


@pytest.mark.parametrize("name", ["exact", "suffix"])
def test_an_allow_means_every_spelling_too(name: str, serve: Serve, application: Application) -> None:
    port = Served(serve, application.port, policy("ALLOW", to(hosts=HOSTS[name]))).port()
    assert {host: ask(port, get("/", host=host)) for host in (*SPELLINGS, *OTHERS)} == {
        **dict.fromkeys(SPELLINGS, 200),
        **dict.fromkeys(OTHERS, 403),
    }
