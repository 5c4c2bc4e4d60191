"""AuthorizationPolicy of security.istio.io, v1 and v1beta1 (istio/api, authorization_policy.proto).

The validation is Istio's own. Where something could not be read the policy fails closed (semantics
rule 18): an ALLOW rule grants nothing, a DENY rule denies everything, what a CUSTOM provider should
have been asked is denied, an unreadable selector is the whole namespace. This file knows nothing of
what a policy means for a request (`mesh.policies.authorization`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from istio_integration.authorization_terms import condition, operation, source
from mesh.dialects.reading import OBJECT, Fields, Reader
from mesh.dialects.subject import SUBJECT, read_subject
from mesh.dialects.syntax import printable
from mesh.model import (
    Authorization,
    AuthorizationRule,
    ObjectRef,
)

SPEC = Fields((*SUBJECT, "action", "provider", "rules"))
PROVIDER = Fields(("name",))
RULE = Fields(("from", "to", "when"))
FROM = Fields(("source",))
TO = Fields(("operation",))

DRY_RUN = "istio.io/dry-run"

Action = Literal["allow", "deny", "audit", "custom"]
_ACTIONS: dict[str, Action] = {"ALLOW": "allow", "DENY": "deny", "AUDIT": "audit", "CUSTOM": "custom"}

#: Fits every request of every caller.
_EVERYTHING = AuthorizationRule("rules")


def read_authorization_policy(root: Reader, ref: ObjectRef) -> tuple[Authorization, ...]:
    """No `spec` at all is an ALLOW without rules: it denies everything, as in Istio."""
    root.fields(OBJECT)
    spec = root.at("spec").fields(SPEC)
    action = _ACTIONS[spec.at("action").choice(tuple(_ACTIONS), "ALLOW")]
    provider = _provider(spec, action)
    subject, services = read_subject(spec, ref)
    rules = tuple(_rule(item, action) for item in spec.at("rules").items())
    whole = Authorization(
        ref,
        action,
        tuple(rule for item, rule in zip(spec.at("rules").items(), rules, strict=True) if item.sound),
        subject,
        services,
        provider,
        _dry_run(root),
    )
    if root.sound:
        return (whole,)
    # What an unknown field or action meant is lost, so nothing that the object grants counts.
    if action == "allow" or root.strange or spec.strange or not spec.at("action").sound:
        trusted = not (root.strange or spec.strange or not spec.at("action").sound)
        return (replace(whole, action="allow", rules=whole.rules if trusted else (), audit=False),)
    if action == "audit":
        return (whole,)
    # Every request that an unreadable part could have meant.
    return (whole, Authorization(ref, "deny", (_EVERYTHING,), subject, services))


def _provider(spec: Reader, action: Action) -> str:
    provider = spec.at("provider").fields(PROVIDER)
    text = printable(provider.at("name"), 253)
    if action == "custom" and not text and provider.sound:
        spec.at("provider").at("name").refuse("is required: action CUSTOM names an extension provider")
    if action != "custom" and provider.present:
        provider.refuse("goes with action CUSTOM only")
    return text


def _dry_run(root: Reader) -> bool:
    """Anything but true and false means: enforced."""
    value = root.at("metadata").mapping().at("annotations").mapping().at(DRY_RUN)
    return value.choice(("true", "false"), "false") == "true" and value.sound


# --- rules ---------------------------------------------------------------------------------------------


def _rule(item: Reader, action: Action) -> AuthorizationRule:
    item.fields(RULE)
    sources = _alternatives(item.at("from"), "source", FROM)
    operations = _alternatives(item.at("to"), "operation", TO)
    when = item.at("when")
    if when.value == []:
        when.refuse("is empty: leave it out for every request")
    allows = action == "allow"
    return AuthorizationRule(
        item.rule_field,
        None if sources is None else tuple(source(reader, item.ref, allows) for reader in sources),
        None if operations is None else tuple(operation(reader) for reader in operations),
        tuple(term for entry in when.items() for term in condition(entry, item.ref, allows)),
    )


def _alternatives(group: Reader, key: str, fields: Fields) -> list[Reader] | None:
    """An absent list means everyone; Istio refuses an empty one."""
    if not group.present:
        return None
    if group.value == []:
        group.refuse(f"is empty: leave it out, or write at least one {key}")
    found: list[Reader] = []
    for item in group.items():
        inner = item.fields(fields).at(key)
        inner.require()
        if isinstance(inner.value, dict) and not inner.value:
            inner.refuse("is empty: name at least one field")
        found.append(inner)
    return found
