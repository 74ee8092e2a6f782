"""UserService: each RPC's transaction, its functions and its event."""

from google.protobuf.empty_pb2 import Empty

from libs import etags, outbox
from libs.db import Connection, Pool, connection, transaction
from libs.errors import Forbidden, InvalidArgument
from libs.identity import caller
from libs.rpc import Context
from services.auth import (
    audit,
    email_changes,
    mails,
    mfa,
    password_codes,
    password_rules,
    people,
    roles,
    sessions,
    throttle,
    users,
)
from services.auth.passwords import Passwords
from thmnayah.auth.v1 import users_pb2, users_pb2_grpc
from thmnayah.auth.v1.auth_pb2 import User, UserCreated


class UserService(users_pb2_grpc.UserServiceServicer):
    """The servicer of thmnayah.auth.v1.UserService, where each RPC is described."""

    def __init__(self, db: Pool, passwords: Passwords, *, registration: bool) -> None:
        """Args: registration: whether anybody may ask for an account."""
        self.db = db
        self.passwords = passwords
        self.registration = registration

    async def InviteUser(self, request: users_pb2.InviteUserRequest, context: Context) -> User:
        async with transaction(self.db) as conn:
            named = await roles.assignable(conn, request.roles, by=caller.get())
            user = await people.add(
                conn,
                email=request.email,
                display_name=request.display_name,
                roles=named,
                locale=request.locale,
                state="INVITED",
            )
            if user is None:
                raise users.taken()
            await mails.add(conn, "PASSWORD", user.email)
            await outbox.add(conn, UserCreated(user=user), about=user.id)
            await audit.record(conn, "user.invited", target=f"user/{user.id}", details={"roles": " ".join(user.roles)})
        return user

    async def RegisterUser(self, request: users_pb2.RegisterUserRequest, context: Context) -> Empty:
        if not self.registration:
            raise Forbidden("REGISTRATION_CLOSED", "ask an administrator for an account", "اطلب حسابًا من مدير المنصة")
        async with transaction(self.db) as conn:
            user = await people.add(
                conn,
                email=request.email,
                display_name=request.display_name,
                roles=["reader"],
                locale=request.locale,
                state="UNVERIFIED",
            )
            await mails.add(conn, "REGISTRATION", request.email)
            await audit.record(conn, "user.registered", target=f"user/{user.id}" if user else "")
        return Empty()

    async def RequestPasswordReset(self, request: users_pb2.RequestPasswordResetRequest, context: Context) -> Empty:
        async with transaction(self.db) as conn:
            await mails.add(conn, "PASSWORD", request.email)
            # The address that was typed may be a password: it is not kept.
            await audit.record(conn, "user.password_reset_requested")
        return Empty()

    async def SetPassword(self, request: users_pb2.SetPasswordRequest, context: Context) -> Empty:
        async with connection(self.db) as conn:
            user = await people.get(conn, await password_codes.owner(conn, request.code))
        password_rules.check(request.password, email=user.email, name=user.display_name)
        password_hash = await self.passwords.hash(request.password)
        async with transaction(self.db) as conn:
            user, is_new = await people.set_password(conn, await password_codes.use(conn, request.code), password_hash)
            await sessions.end_all(conn, user.id)
            await mails.add(conn, "PASSWORD_CHANGED", user.email)
            event = UserCreated(user=user) if is_new else users_pb2.UserUpdated(user=user)
            await outbox.add(conn, event, about=user.id)
            await audit.record(conn, "user.password_set", target=f"user/{user.id}", actor=user.id)
        return Empty()

    async def ChangePassword(self, request: users_pb2.ChangePasswordRequest, context: Context) -> Empty:
        identity = caller.get()
        async with connection(self.db) as conn:
            user = await users.get(conn, identity.user_id)
            attempt = await throttle.admit(conn, throttle.key("user", user.id))
            stored = await people.password_hash(conn, user.id)
        if not await self.passwords.verify(request.current_password, stored):
            async with transaction(self.db) as conn:
                await throttle.failed(conn, attempt)
                await audit.record(conn, "user.password_changed", outcome="FAILED", target=f"user/{user.id}")
            raise InvalidArgument(
                {"currentPassword": "is not the password of this account"},
                reason="PASSWORD_WRONG",
                arabic="كلمة المرور الحالية غير صحيحة",
            )
        password_rules.check(request.password, email=user.email, name=user.display_name)
        password_hash = await self.passwords.hash(request.password)
        async with transaction(self.db) as conn:
            user, _ = await people.set_password(conn, user.id, password_hash)
            await password_codes.forget(conn, user.id)
            await sessions.end_all(conn, user.id, but=identity.session_id)
            await mails.add(conn, "PASSWORD_CHANGED", user.email)
            await outbox.add(conn, users_pb2.UserUpdated(user=user), about=user.id)
            await audit.record(conn, "user.password_changed", target=f"user/{user.id}")
        return Empty()

    async def UpdateMe(self, request: users_pb2.UpdateMeRequest, context: Context) -> User:
        request.user.id = caller.get().user_id
        return await self._update(request, people.OWN)

    async def BeginEmailChange(self, request: users_pb2.BeginEmailChangeRequest, context: Context) -> Empty:
        async with transaction(self.db) as conn:
            await mfa.require_fresh_sign_in(conn)
            user = await users.get(conn, caller.get().user_id)
            people.check_other(user, request.email)
            await email_changes.ask(conn, user.id, request.email)
            await mails.add(conn, "EMAIL_CHANGE", request.email, locale=user.locale)
            await audit.record(conn, "user.email_change_requested", target=f"user/{user.id}")
        return Empty()

    async def FinishEmailChange(self, request: users_pb2.FinishEmailChangeRequest, context: Context) -> User:
        me, user = caller.get(), None
        async with transaction(self.db) as conn:
            email = await email_changes.take(conn, me.user_id, request.code)
            if email:
                _, user = await people.set_email(conn, me.user_id, email)
                await sessions.end_all(conn, user.id, but=me.session_id)
                await outbox.add(conn, users_pb2.UserUpdated(user=user), about=user.id)
            outcome: audit.Outcome = "OK" if email else "FAILED"
            await audit.record(conn, "user.email_changed", outcome=outcome, target=f"user/{me.user_id}")
        if user is None:
            raise InvalidArgument(
                {"code": "is not valid or no longer so"},
                reason="CODE_INVALID",
                arabic="الرمز غير صالح أو انتهت صلاحيته",
            )
        return user

    async def DeleteMe(self, request: users_pb2.DeleteMeRequest, context: Context) -> User:
        async with transaction(self.db) as conn:
            await mfa.require_fresh_sign_in(conn)
            user = await users.get(conn, caller.get().user_id)
            if users.key(request.email) != users.key(user.email):
                raise InvalidArgument({"email": "is not the address of this account"})
            return await _delete(conn, user.id)

    async def GetUser(self, request: users_pb2.GetUserRequest, context: Context) -> User:
        async with connection(self.db) as conn:
            return await people.get(conn, request.id)

    async def ListUsers(self, request: users_pb2.ListUsersRequest, context: Context) -> users_pb2.ListUsersResponse:
        async with connection(self.db) as conn:
            return await people.list_page(
                conn, filter=request.filter, page_size=request.page_size, page_token=request.page_token
            )

    async def UpdateUser(self, request: users_pb2.UpdateUserRequest, context: Context) -> User:
        return await self._update(request, people.ANY)

    async def ChangeUserEmail(self, request: users_pb2.ChangeUserEmailRequest, context: Context) -> User:
        async with transaction(self.db) as conn:
            before, user = await people.set_email(conn, request.id, request.email)
            await roles.assignable(conn, users.all_roles(before), by=caller.get())
            await sessions.end_all(conn, user.id)
            await outbox.add(conn, users_pb2.UserUpdated(user=user), about=user.id)
            await audit.record(conn, "user.email_changed", target=f"user/{user.id}")
        return user

    async def DisableUser(self, request: users_pb2.DisableUserRequest, context: Context) -> User:
        async with transaction(self.db) as conn:
            user = await people.disable(conn, request.id)
            if user is None:
                return await people.get(conn, request.id)
            await outbox.add(conn, users_pb2.UserDisabled(user=user), about=user.id)
            await audit.record(conn, "user.disabled", target=f"user/{user.id}")
        return user

    async def EnableUser(self, request: users_pb2.EnableUserRequest, context: Context) -> User:
        async with transaction(self.db) as conn:
            user = await people.enable(conn, request.id)
            if user is None:
                return await people.get(conn, request.id)
            await outbox.add(conn, users_pb2.UserUpdated(user=user), about=user.id)
            await audit.record(conn, "user.enabled", target=f"user/{user.id}")
        return user

    async def DeleteUser(self, request: users_pb2.DeleteUserRequest, context: Context) -> User:
        async with transaction(self.db) as conn:
            return await _delete(conn, request.id)

    async def _update(
        self, request: users_pb2.UpdateMeRequest | users_pb2.UpdateUserRequest, allowed: tuple[str, ...]
    ) -> User:
        etag = etags.given(request.user.etag)
        async with transaction(self.db) as conn:
            user = await people.update(conn, request.user, paths=request.update_mask.paths, allowed=allowed, etag=etag)
            if user is None:
                return await people.get(conn, request.user.id)
            await outbox.add(conn, users_pb2.UserUpdated(user=user), about=user.id)
            await audit.record(conn, "user.updated", target=f"user/{user.id}", details={"roles": " ".join(user.roles)})
        return user


async def _delete(conn: Connection, user_id: str) -> User:
    user = await people.delete(conn, user_id)
    await outbox.add(conn, users_pb2.UserDeleted(user=user), about=user.id)
    await audit.record(conn, "user.deleted", target=f"user/{user.id}")
    return user
