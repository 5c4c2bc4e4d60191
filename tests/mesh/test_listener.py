"""Addresses of listeners."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from mesh.listener import EGRESS_BLOCKS, INGRESS_BLOCKS, egress_addresses, ingress_addresses


def test_an_address_is_the_number_in_its_block() -> None:
    assert egress_addresses(1) == ("127.0.0.1", "fd51:ce:1::1")
    assert egress_addresses(256) == ("127.0.1.0", "fd51:ce:1::100")
    assert ingress_addresses(0x123456) == ("240.18.52.86", "fd51:ce:2::12:3456")


@pytest.mark.parametrize("number", [1, 256, (1 << 24) - 1])
def test_every_address_is_in_the_blocks_that_guard_it(number: int) -> None:
    for addresses, blocks in (
        (egress_addresses(number), EGRESS_BLOCKS),
        (ingress_addresses(number), INGRESS_BLOCKS),
    ):
        for address, block in zip(addresses, blocks, strict=True):
            assert ip_address(address) in ip_network(block)


@pytest.mark.parametrize("number", [-1, 0, 1 << 24])
def test_a_number_of_more_than_24_bits_or_none_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match=str(number)):
        egress_addresses(number)
