"""What an Envoy has, as rows of the tables that istioctl prints: a file for each section of a dump.

A section is a module with `HEAD`, the columns; `select(dump, wanted)`, the resources that the filters
leave, as Envoy printed them; `rows(selected)`. Pure.
"""

from __future__ import annotations
