"""Reading the settings of components."""

import pytest

from thmnayah.cli.doctor import addresses


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("postgresql://u:p@db.example.com/x", [("db.example.com", 5432)]),
        ("postgresql:///x?host=/run/postgresql", []),
        ("nats://t@a:4222,nats://b", [("a", 4222), ("b", 5432)]),
        ("[::1]:6380", [("::1", 6380)]),
        ("", []),
    ],
)
def test_the_addresses_of_a_component_are_read_from_its_setting(url: str, found: list[tuple[str, int]]) -> None:
    assert list(addresses(url, 5432)) == found
