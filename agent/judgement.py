"""What Envoy's filters said of one request, by the metadata that they leave in its log entry.

The keys are those of `xds.render.filters`: which rules refused a token, what network policy, DENY and ALLOW
answered, which CUSTOM rules fitted, and what each stage would answer if policies in audit mode counted. Knows
no names of ours but the keys of rules, which the names of RBAC policies and token rules carry.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mesh.answers.flow import FlowVerdict
from mesh.model import ObjectRef

Missing = Literal["", "network", "authorization", "limits", "certificate"]
_Stages = tuple[tuple[str, Missing], ...]

#: What keys of each stage begin with, and the kind of rules of which it needs one.
_STAGES: _Stages = (("", "network"), ("deny_", ""), ("allow_", "authorization"))
_AUDITED: _Stages = (("audit_rules_", "network"), ("audit_deny_", ""), ("audit_allow_", "authorization"))
_NOTHING: Missing = ""
_BAD_TOKEN = "jwt_authn_access_denied"
_LIMITED = ("local_rate_limited", "request_rate_limited", "rate_limiter_error")
#: Rules of CUSTOM, by the place of their service. (A filter of a user's may leave keys that are like ours.)
_CUSTOM = re.compile("custom_([0-9]{1,9})_.*effective_policy_id")
_FORBIDDEN = ("rbac_access_denied", "ext_authz_denied", "ext_authz_error")


@dataclass(frozen=True, slots=True)
class Judgement:
    """`rules` are the keys of those that decided. A refusal for want of an allowing rule names none: then
    `missing` says of which kind. Likewise of what would be; `audit` is empty where that is the same."""

    denied: bool = False
    rules: tuple[str, ...] = ()
    missing: Missing = ""
    audit: FlowVerdict | Literal[""] = ""
    audit_rules: tuple[str, ...] = ()
    audit_missing: Missing = ""


def judge(details: str, said: Mapping[str, str], tokens: Mapping[str, str]) -> Judgement:
    """`details` are Envoy's response code details, `said` the strings of the RBAC filters' metadata, `tokens`
    the names of rules about tokens and why each refused."""
    if details.startswith(_BAD_TOKEN):
        return Judgement(True, _refusing(details, tokens))  # nothing behind has seen the request
    if details.startswith(_LIMITED):
        return Judgement(True, missing="limits")  # Envoy does not say which
    denied = details.startswith(_FORBIDDEN)
    if details.startswith("ext_authz"):
        rules, missing = _asked(said)[-1:], _NOTHING
    else:
        rules, missing = _decided(said, _STAGES, "enforced")
        rules = rules if denied else (*rules, *_asked(said))
    audit, audit_rules, audit_missing = _would(denied, details, said)
    told = _keys(said, ("audit_action_shadow_effective_policy_id",))
    return Judgement(denied, rules, missing, audit, (*audit_rules, *told), audit_missing)


def _refusing(details: str, tokens: Mapping[str, str]) -> tuple[str, ...]:
    """A token fails at every rule but its issuer's: those whose reason is Envoy's answer have refused it."""
    reason = details.removeprefix(_BAD_TOKEN).strip("{}")
    names = (name for name in sorted(tokens) if tokens[name].replace(" ", "_") == reason)
    return tuple(key for name in names if (key := rule_key(name)))


def _would(
    denied: bool, details: str, said: Mapping[str, str]
) -> tuple[FlowVerdict | Literal[""], tuple[str, ...], Missing]:
    results = [said.get(f"{prefix}shadow_engine_result", "") for prefix, _ in _AUDITED]
    # What an authorization service refuses, it refuses whatever else would be.
    would_be_denied = "denied" in results or (denied and details.startswith("ext_authz"))
    if not any(results) or would_be_denied == denied:
        return "", (), ""
    rules, missing = _decided(said, _AUDITED, "shadow")
    return "DROPPED" if would_be_denied else "FORWARDED", rules, missing


def _decided(said: Mapping[str, str], stages: _Stages, way: str) -> tuple[tuple[str, ...], Missing]:
    """The rules of the stage that refused, or of all if none did."""
    for prefix, missing in stages:
        if said.get(f"{prefix}{way}_engine_result") == "denied":
            keys = () if missing else _keys(said, (f"{prefix}{way}_effective_policy_id",))
            return keys, missing
    return _keys(said, [f"{prefix}{way}_effective_policy_id" for prefix, _ in stages]), ""


def _asked(said: Mapping[str, str]) -> tuple[str, ...]:
    """CUSTOM rules that fitted, in the order in which services were asked."""
    found = [(int(match[1]), key) for key in said if (match := _CUSTOM.fullmatch(key))]
    return _keys(said, [key for _, key in sorted(found)])


def _keys(said: Mapping[str, str], fields: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    found = (rule_key(said[field]) for field in fields if field in said)
    return tuple(dict.fromkeys(key for key in found if key))


def rule_key(policy: str) -> str:
    """Our key of a rule, such as `CiliumNetworkPolicy shop/web ingress[0]`, from Envoy's name of it, such as
    `CiliumNetworkPolicy-ns[shop]-policy[web]-rule[ingress[0]]`; "" if that is none."""
    kind, found, rest = policy.partition("-ns[")
    namespace, _, rest = rest.partition("]-policy[")
    name, _, field = rest.partition("]-rule[")
    return f"{ObjectRef(kind, namespace, name)} {field.removesuffix(']')}" if found else ""
