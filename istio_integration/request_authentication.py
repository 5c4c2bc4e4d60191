"""RequestAuthentication of security.istio.io, v1 and v1beta1 (istio/api, request_authentication.proto).

The validation is Istio's own. Where something could not be read the policy fails closed (semantics rule 18):
a rule that is not understood believes no token, an unreadable selector is the whole namespace.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from istio_integration.duration import duration_ms
from mesh.dialects.reading import OBJECT, Fields, Reader, shown
from mesh.dialects.subject import SUBJECT, read_subject
from mesh.dialects.syntax import printable, token
from mesh.model import JwtRule, KeySource, ObjectRef, RequestAuthentication
from mesh.policies.key_set import KeySetError, normalise

SPEC = Fields((*SUBJECT, "jwtRules"))
RULE = Fields(
    (
        "issuer",
        "audiences",
        "jwks",
        "jwksUri",
        "fromHeaders",
        "fromParams",
        "fromCookies",
        "forwardOriginalToken",
        "outputPayloadToHeader",
        "outputClaimToHeaders",
        "timeout",
        "spaceDelimitedClaims",
    )
)
HEADER = Fields(("name", "prefix"))
CLAIM = Fields(("header", "claim"))

DISCOVERY = "/.well-known/openid-configuration"

_LONGEST = 4096
#: What a request cannot do without, and what HTTP itself speaks with.
_RESERVED = frozenset({"host", "connection", "content-length", "te", "transfer-encoding", "upgrade"})


def read_request_authentication(root: Reader, ref: ObjectRef) -> tuple[RequestAuthentication, ...]:
    root.fields(OBJECT)
    spec = root.at("spec").fields(SPEC)
    subject, services = read_subject(spec, ref)
    rules = [_rule(item) for item in spec.at("jwtRules").items()]
    if not root.sound and not rules:
        rules = [JwtRule("jwtRules", "", "")]
    return (RequestAuthentication(ref, tuple(rules), subject, services),)


def _rule(item: Reader) -> JwtRule:
    item.fields(RULE)
    issuer = _text(item.at("issuer"))
    headers = tuple(_header(entry) for entry in item.at("fromHeaders").items())
    params = tuple(_text(entry) for entry in item.at("fromParams").items())
    cookies = tuple(token(entry, entry.text()) for entry in item.at("fromCookies").items())
    read_from = {name for name, _ in headers}
    if not (headers or params or cookies):
        read_from = {"authorization"}
    rule = JwtRule(
        item.rule_field,
        issuer,
        _keys(item, issuer),
        tuple(_text(entry) for entry in item.at("audiences").items()),
        headers,
        params,
        cookies,
        item.at("forwardOriginalToken").boolean(),
        _output(item.at("outputPayloadToHeader"), read_from),
        tuple(_claim(entry, read_from) for entry in item.at("outputClaimToHeaders").items()),
        tuple(_text(entry) for entry in item.at("spaceDelimitedClaims").items()),
    )
    return rule if item.sound else JwtRule(item.rule_field, "", "")


def _text(reader: Reader) -> str:
    found = printable(reader, _LONGEST)
    if reader.require() and reader.sound and not found:
        reader.refuse("is empty")
    return found


def _header(entry: Reader) -> tuple[str, str]:
    name = entry.fields(HEADER).at("name")
    name.require()
    return token(name, name.text()).lower(), printable(entry.at("prefix"), 256)


def _claim(entry: Reader, read_from: set[str]) -> tuple[str, str]:
    entry.fields(CLAIM).at("header").require()
    return _output(entry.at("header"), read_from), _text(entry.at("claim"))


def _output(reader: Reader, read_from: set[str]) -> str:
    """A header that the proxy writes, and therefore takes from every client."""
    if not reader.present:
        return ""
    name = token(reader, reader.text()).lower()
    if name in _RESERVED:
        reader.refuse(f"{name} is no header for claims: HTTP itself needs it")
    elif name in read_from:
        reader.refuse(f"{name} is where the token comes in; name another header for what it says")
    return name


# --- keys -------------------------------------------------------------------------------------------------


def _keys(item: Reader, issuer: str) -> str | KeySource:
    inline, uri = item.at("jwks"), item.at("jwksUri")
    wait = duration_ms(item.at("timeout"), 5_000, at_least=0)
    if item.at("timeout").sound and not 0 < wait <= 60_000:
        item.at("timeout").refuse("must be more than 0 and at most 60s")
    if inline.present and uri.present:
        inline.refuse("stands alone: keys come from jwks or from jwksUri")
    if inline.present:
        try:
            return normalise(inline.text(), public=False) if inline.sound else ""
        except KeySetError as error:
            inline.refuse(str(error))
            return ""
    if uri.present:
        return KeySource(_url(uri, ""), False, wait)
    # OpenID Connect Discovery 1.0, 4.1: a slash at the end of the issuer goes.
    return KeySource(
        _url(item.at("issuer"), "; with jwksUri or jwks it need be none").rstrip("/") + DISCOVERY, True, wait
    )


def _url(reader: Reader, hint: str) -> str:
    written = printable(reader, _LONGEST)
    try:
        parts = urlsplit(written)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username
        good = good and parts.port != 0 and written.isascii() and " " not in written
    except ValueError:
        good = False
    if reader.present and reader.sound and not good:
        reader.refuse(f"{shown(written)} is no URL such as https://example.com/keys{hint}")
    return written
