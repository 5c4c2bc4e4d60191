"""The reasons of an answer: object, rule, what it does and who enforces it; and what would have to change."""

from __future__ import annotations

from collections.abc import Sequence

from mesh.answers.steering_table import KERNEL, RESOLVER
from mesh.model import Direction
from mesh.policies.policy import Allow, Deny

Reason = dict[str, str]

#: What REGISTRY_ONLY does.
UNNAMED = "deny (no service that the pod sees names it)"


def reason(name: str, rule: str, effect: str, enforced_by: str) -> Reason:
    return {"object": name, "rule": rule, "effect": effect, "enforced_by": enforced_by}


def said(key: str, effect: str, enforced_by: str) -> Reason:
    """Of a rule's key, such as `HTTPRoute shop/api rules[0]`."""
    kind, name, *field = key.split(" ", 2)
    return reason(f"{kind} {name}", field[0] if field else "rules", effect, enforced_by)


def decided(key: str, direction: Direction, verdict: Allow | Deny) -> Reason:
    """What is decided without a request. A key without a field is a policy of which no rule fits."""
    kind, name, *field = key.split(" ", 2)
    effect, enforced_by = "deny" if isinstance(verdict, Deny) else "allow", KERNEL
    if isinstance(verdict, Deny) and verdict.unnamed:
        effect = UNNAMED
    if isinstance(verdict, Allow) and verdict.names is not None:
        patterns = ", ".join(sorted(pattern.text for pattern in verdict.names)) or "no name"
        effect, enforced_by = f"allow queries for {patterns}", RESOLVER
    if field:
        return reason(f"{kind} {name}", field[0], effect, enforced_by)
    if kind == "AuthorizationPolicy":
        return reason(f"{kind} {name}", "rules", f"{effect} (no rule fits)", enforced_by)
    return reason(f"{kind} {name}", direction, f"{effect} ({direction} default)", enforced_by)


def remedies(reasons: Sequence[Reason]) -> list[str]:
    """What would have to change for what is denied to be allowed."""
    found = []
    for told in reasons:
        what, rule, effect = told["object"], told["rule"], told["effect"]
        if effect == UNNAMED:
            found.append("a Service or ServiceEntry that the pod sees must name it, with that port")
        elif effect.startswith("deny ("):
            found.append(f"{what} must get a rule under {rule} that allows it")
        elif effect.startswith("no rule fits") or (effect == "deny: 403" and rule == "rules"):
            found.append(f"{what} {rule} must allow such a request")
        elif effect.startswith("deny"):
            found.append(f"{what} {rule} must go, or leave it out")
    return list(dict.fromkeys(found))
