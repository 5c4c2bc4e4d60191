"""Real Envoys and servers, as for the tests of what is rendered."""

import pytest

from tests.xds.render.conftest import folder, serve, servers

# What its assertions compare is large: they must say where the two sides differ.
pytest.register_assert_rewrite("tests.traffic.followed")

__all__ = ["folder", "serve", "servers"]
