from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.dialects import read
from mesh.model import ObjectRef, PrivateKey, Secret, TrustBundle
from tests.mesh.dialects.objects import obj, valid

_ALL = {
    o["metadata"]["name"]: o for o in yaml.safe_load_all(Path(__file__).with_name("valid.yaml").read_text())
}
CERT = _ALL["example-com"]["stringData"]["tls.crt"]
KEY = _ALL["example-com"]["stringData"]["tls.key"]
REF = ObjectRef("Secret", "shop", "one")
CRL = """-----BEGIN X509 CRL-----
MIGxMFgCAQEwCgYIKoZIzj0EAwIwETEPMA0GA1UEAwwGd2ViLWNhFw0yMDAxMDEw
MDAwMDBaGA8yMTIwMDEwMTAwMDAwMFowFDASAgEHFw0yMDAxMDEwMDAwMDBaMAoG
CCqGSM49BAMCA0kAMEYCIQDjWqNAnIO2ocMk96mWYIWaBYPQEr2viN/42J4f8OSY
YAIhAJs4k9duu7teDzPnGg/xMO66bmLsm4D8zXX8iMAVa9YQ
-----END X509 CRL-----
"""
PAIR = {"tls.crt": CERT, "tls.key": KEY}
CANARY = "c4n4ryc4n4ry"


def coded(entries: dict[str, str]) -> dict[str, str]:
    return {key: base64.b64encode(text.encode()).decode() for key, text in entries.items()}


def secret(data: Any = None, kind: Any = "kubernetes.io/tls", **rest: Any) -> Any:
    whole = obj("v1", "Secret", None, type=kind, data=data, **rest)
    del whole["spec"]
    return whole


def config_map(data: Any) -> Any:
    whole = obj("v1", "ConfigMap", None, data=data)
    del whole["spec"]
    return whole


WHOLE = Secret(REF, CERT.encode(), PrivateKey(KEY.encode()), CERT.encode())


@pytest.mark.parametrize(
    ("object", "wanted"),
    [
        (secret(coded(PAIR | {"ca.crt": CERT})), WHOLE),
        (secret(coded(PAIR | {"ca.crt": CERT}), "Opaque"), WHOLE),
        (secret(coded({"cert": CERT, "key": KEY, "cacert": CERT}), None), WHOLE),
        (secret(coded({"ca.crt": CERT}), stringData=PAIR), WHOLE),
        (secret(coded({"tls.key": "old"} | PAIR | {"ca.crt": CERT}), stringData=PAIR), WHOLE),
        (secret(coded(PAIR | {"ca.crt": ""})), Secret(REF, CERT.encode(), PrivateKey(KEY.encode()))),
        (secret(coded({"cacert": CERT}), "Opaque"), Secret(REF, authorities=CERT.encode())),
        (
            secret(coded(PAIR | {"ca.crt": CERT, "ca.crl": CRL})),
            replace(WHOLE, revoked=CRL.encode()),
        ),
        (
            secret(coded({"cacert": CERT, "crl": CRL + CRL}), "Opaque"),
            Secret(REF, authorities=CERT.encode(), revoked=(CRL + CRL).encode()),
        ),
        (secret(coded({"ca.crt": CERT + CERT}), "Opaque"), Secret(REF, authorities=(CERT + CERT).encode())),
    ],
)
def test_a_secret_holds_a_certificate_its_key_and_authorities(object: Any, wanted: Secret) -> None:
    assert valid(object).nouns == (wanted,)


def test_base64_may_be_wrapped() -> None:
    wrapped = {key: text[:40] + "\n  " + text[40:] for key, text in coded(PAIR).items()}
    assert valid(secret(wrapped)).nouns == (Secret(REF, CERT.encode(), PrivateKey(KEY.encode())),)


@pytest.mark.parametrize(
    ("kind", "entries"),
    [
        ("Opaque", {"password": "a", "key": "b"}),
        ("Opaque", {}),
        ("kubernetes.io/dockerconfigjson", PAIR),
        ("example.com/mine", {"tls.crt": "a", "tls.key": "b"}),
    ],
)
def test_any_other_secret_means_nothing(kind: str, entries: dict[str, str]) -> None:
    fragment = valid(secret(coded(entries), kind))
    assert (fragment.nouns, fragment.problems) == ((), ())


def test_a_key_prints_redacted_however_it_is_printed() -> None:
    (noun,) = valid(secret(coded(PAIR))).nouns
    assert isinstance(noun, Secret)
    assert "key=[redacted]" in repr(noun)
    shown = f"{noun} {noun.key} {noun.key!r} {noun.key!s} %s %r" % (noun.key, noun.key)
    assert KEY.splitlines()[1] not in shown
    assert bytes(noun.key) == KEY.encode()


def labelled(label: str) -> str:
    return KEY.replace("PRIVATE KEY", label)


@pytest.mark.parametrize("label", ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"])
def test_a_key_may_be_of_any_kind_and_have_text_and_parameters_around(label: str) -> None:
    parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    key = "a remark\n" + parameters + labelled(label)
    assert valid(secret(coded(PAIR | {"tls.key": key}))).nouns


NO_KEY = "is not PEM of one private key without a passphrase"
NO_CERTIFICATE = "is not PEM of certificates"
NO_LIST = "is not PEM of certificate revocation lists"


@pytest.mark.parametrize(
    ("object", "field", "message"),
    [
        (
            secret(coded({"tls.crt": CERT})),
            "data['tls.key']",
            "is required in a Secret of type kubernetes.io/tls",
        ),
        (secret(), "data['tls.crt']", "is required in a Secret of type kubernetes.io/tls"),
        (secret(coded(PAIR) | {"tls.key": CANARY + "!"}), "data['tls.key']", "is not base64"),
        (secret(coded(PAIR) | {"tls.key": CANARY + "é"}), "data['tls.key']", "is not base64"),
        (secret(coded(PAIR | {"tls.key": CANARY})), "data['tls.key']", NO_KEY),
        (secret(coded(PAIR | {"tls.key": labelled("ENCRYPTED PRIVATE KEY")})), "data['tls.key']", NO_KEY),
        (secret(coded(PAIR | {"tls.key": KEY + KEY})), "data['tls.key']", NO_KEY),
        (secret(coded(PAIR | {"tls.key": CERT})), "data['tls.key']", NO_KEY),
        (secret(coded(PAIR | {"tls.key": KEY[:80]})), "data['tls.key']", NO_KEY),
        (secret(coded(PAIR | {"tls.crt": KEY})), "data['tls.crt']", NO_CERTIFICATE),
        (secret(coded(PAIR | {"tls.crt": CERT + KEY})), "data['tls.crt']", NO_CERTIFICATE),
        (secret(coded(PAIR | {"tls.crt": CERT + CERT[:80]})), "data['tls.crt']", NO_CERTIFICATE),
        (secret(coded(PAIR | {"tls.crt": CERT.replace("MIIB", "MII")})), "data['tls.crt']", NO_CERTIFICATE),
        (secret(coded(PAIR | {"tls.crt": CERT.replace("MIIB", "AIIB")})), "data['tls.crt']", NO_CERTIFICATE),
        (secret(coded(PAIR | {"ca.crt": CANARY})), "data['ca.crt']", NO_CERTIFICATE),
        (secret(stringData=PAIR | {"tls.key": CANARY}), "stringData['tls.key']", NO_KEY),
        (secret(coded(PAIR) | {"tls.key": 123454321}), "data['tls.key']", "must be text"),
        (secret(coded(PAIR) | {"tls.key": [CANARY]}), "data['tls.key']", "must be text"),
        (secret(CANARY), "data", "must be a mapping of names to text"),
        (secret(stringData=CANARY), "stringData", "must be a mapping of names to text"),
        (secret(coded(PAIR | {"ca.crt": CERT, "ca.crl": CANARY})), "data['ca.crl']", NO_LIST),
        (secret(coded(PAIR | {"ca.crt": CERT, "ca.crl": CERT})), "data['ca.crl']", NO_LIST),
        (secret(coded(PAIR | {"ca.crt": CERT, "ca.crl": CRL + CRL[:80]})), "data['ca.crl']", NO_LIST),
        (
            secret(coded(PAIR | {"ca.crl": CRL})),
            "data['ca.crl']",
            "needs ca.crt beside it: it takes back what that authority has given",
        ),
        (
            secret(coded(PAIR | {"ca.crt": CERT, "crl": CRL})),
            "data.crl",
            "is what stands beside ca.crt under the name ca.crl",
        ),
    ],
)
def test_n42_what_is_malformed_is_refused_without_a_word_of_it(object: Any, field: str, message: str) -> None:
    fragment = read(object)
    assert (fragment.valid, fragment.nouns) == (False, ())
    assert (field, message) in {(p.field, p.message) for p in fragment.problems}
    said = "".join(p.field + p.message for p in fragment.problems)
    leaked = (CANARY, "123454321", base64.b64encode(CANARY.encode()).decode(), KEY.splitlines()[1])
    assert not any(text in said for text in leaked)


# --- ConfigMaps ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ca.crt", "cacert"])
def test_a_config_map_holds_authorities(name: str) -> None:
    found = valid(config_map({name: CERT})).nouns
    assert found == (TrustBundle(ObjectRef("ConfigMap", "shop", "one"), CERT.encode()),)


def test_authorities_in_a_config_map_take_certificates_back_too() -> None:
    (found,) = valid(config_map({"ca.crt": CERT, "ca.crl": CRL})).nouns
    assert found == TrustBundle(ObjectRef("ConfigMap", "shop", "one"), CERT.encode(), CRL.encode())
    fragment = read(config_map({"ca.crt": CERT, "ca.crl": "nothing"}))
    assert (fragment.nouns, fragment.valid) == ((), False)
    assert [(p.field, p.message) for p in fragment.problems] == [("data['ca.crl']", NO_LIST)]


def test_a_config_map_without_authorities_means_nothing() -> None:
    assert valid(config_map({"a": "b", "ca.crt": ""})).nouns == ()
    assert valid(config_map(None)).nouns == ()


def test_a_config_map_whose_authorities_are_none_is_refused() -> None:
    fragment = read(config_map({"ca.crt": "nothing"}))
    assert (fragment.nouns, fragment.valid) == ((), False)
    assert [(p.field, p.message) for p in fragment.problems] == [("data['ca.crt']", NO_CERTIFICATE)]
