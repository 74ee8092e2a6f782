"""Service accounts, as an administrator types them."""

from tests.cli.conftest import Cli


async def test_a_service_account_from_its_making_to_its_end(cli: Cli, word: str) -> None:
    made = await cli("service-account", "create", word, "--role", "editor", "--role", "reader", "--json")
    account = made.lines[0]["id"]
    disabled = await cli("service-account", "disable", account)
    listed = await cli("service-account", "list")
    enabled = await cli("service-account", "enable", account)
    deleted = await cli("service-account", "delete", account)
    again = await cli("service-account", "disable", account)

    assert disabled.out == f"{account}  {word} (editor, reader) DISABLED\n"
    assert disabled.out in listed.out
    assert enabled.out == f"{account}  {word} (editor, reader)\n"
    assert deleted.out == f"{account}  deleted\n"
    assert (again.status, "SERVICE_ACCOUNT_NOT_FOUND" in again.err) == (1, True)
