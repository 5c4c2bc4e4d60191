"""N65, N66: whatever a pod sends, by whatever call, meets the policy.

Each way is first shown to arrive where nothing forbids it, so that silence later means something.
"""

from __future__ import annotations

import pytest

from tests.kernel.box import Box
from tests.threats.capture import captured
from tests.threats.ways import WAYS, Attempt


@pytest.mark.parametrize("seen", [True, False], ids=["in-the-cgroup", "passed-in"])
@pytest.mark.parametrize(
    ("name", "family"), [(name, family) for name, (_, families) in WAYS.items() for family in families]
)
def test_a_pod_to_which_all_is_denied_sends_nothing(box: Box, name: str, family: int, seen: bool) -> None:
    one, two, _ = box.pods
    attempt, (way, _) = Attempt(one, two, family, seen), WAYS[name]
    with captured(two) as capture:
        way(attempt)
        assert capture.from_(one, expected=True), "not even without a policy does it arrive"
        box.select(one, egress=1)
        box.apply()
        way(attempt)
        assert not capture.from_(one), "denied at the sender, its flow may have been live"
        box.reset()
        box.select(two, ingress=2)
        box.apply(forget_flows=True)
        way(attempt)
        assert not capture.from_(one), "denied at the receiver"
