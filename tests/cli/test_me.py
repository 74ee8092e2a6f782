"""One's own account, from the command line."""

from deploy.local.mesh import Mesh
from tests.auth.mailbox import code_of, mail_to
from tests.cli.conftest import Cli
from thmnayah.auth.v1.auth_pb2 import CreateUserRequest, User
from thmnayah.auth.v1.users_pb2 import GetUserRequest
from thmnayah.client import Mesh as Client

PASSWORD = "Correct-Horse-7"


async def test_a_person_changes_their_address_and_goes(mesh: Mesh, client: Client, stranger: Cli, word: str) -> None:
    new = f"new-{word}@example.com"
    request = CreateUserRequest(email=f"{word}@example.com", password=PASSWORD, roles=["reader"])
    user = await client.auth.CreateUser(request)
    assert (await stranger("login", user.email, stdin=f"{PASSWORD}\n")).status == 0

    asked = await stranger("me", "change-email", new)
    done = await stranger("me", "confirm-email", THMNAYAH_CODE=code_of(await mail_to(mesh, new)))
    again = await stranger("me", "confirm-email", THMNAYAH_CODE="x")
    kept = await stranger("me", "delete", stdin="n\n")
    gone = await stranger("me", "delete", "--yes")
    after = await stranger("me", "delete", "--yes")

    assert asked.status == 0, asked.err
    assert done.out == f"You sign in as {new} from now on.\n"
    assert (again.status, again.err) == (1, "error: code: is not valid or no longer so (CODE_INVALID)\n")
    assert (kept.status, gone.out) == (1, f"The account {new} is erased.\n")
    assert (await client.users.GetUser(GetUserRequest(id=user.id))).state == User.DELETED
    assert "thmnayah login" in after.err  # the session is forgotten here, too
