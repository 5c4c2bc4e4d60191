"""Extension configurations by name and type: filters that come by extension discovery, those of WasmPlugins.
The type tells the module itself from what stands in for it (`xds.render.plugins`)."""

from __future__ import annotations

from sluice.proxy_text.dump import Data, part
from sluice.proxy_text.wanted import Wanted

HEAD = ("ECDS NAME", "TYPE")

_PREFIX = "type.googleapis.com/"


def select(dump: Data, _: Wanted) -> Data:
    """The EcdsConfigDump."""
    return part(dump, "EcdsConfigDump")


def rows(selected: Data) -> list[tuple[str, ...]]:
    found = (entry["ecds_filter"] for entry in selected.get("ecds_filters", ()))
    pairs = ((filter_["typed_config"]["@type"].removeprefix(_PREFIX), filter_["name"]) for filter_ in found)
    return [(name, kind) for kind, name in sorted(pairs)]
