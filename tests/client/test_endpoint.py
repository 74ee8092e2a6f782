"""What an address may look like."""

import pytest

from thmnayah.client import endpoint


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("127.0.0.1:8080", ("127.0.0.1:8080", False)),
        ("http://localhost:8080/", ("localhost:8080", False)),
        ("cms.example.com", ("cms.example.com:80", False)),
        ("https://cms.example.com", ("cms.example.com:443", True)),
        ("[::1]:8080", ("[::1]:8080", False)),
    ],
)
def test_an_address_is_a_host_a_port_and_a_scheme(address: str, found: tuple[str, bool]) -> None:
    assert endpoint(address) == found


@pytest.mark.parametrize("address", ["", ":8080", "ftp://x", "https://x/v1", "x:y", "x:99999"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"address|[Pp]ort"):
        endpoint(address)
