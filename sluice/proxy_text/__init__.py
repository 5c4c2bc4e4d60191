"""What an Envoy has, as rows of the tables that istioctl prints: a file for each section of a dump.

A section is a module with `HEAD`, the columns; `select(dump, wanted)`, what the filters leave of it, as Envoy
printed it and istioctl shows it as JSON; `rows(selected)`. Pure.
"""

from __future__ import annotations
