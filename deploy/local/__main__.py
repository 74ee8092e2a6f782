"""Runs the mesh until Ctrl-C or SIGTERM: python -m deploy.local."""

import asyncio
import os
import signal
import sys
import time

from dotenv import dotenv_values
from pydantic import ValidationError

from deploy.local.mesh import Mesh
from deploy.local.processes import NotStarted
from deploy.local.settings import LocalSettings


def say(text: str) -> None:
    """A line about the mesh, to whoever started it."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


async def run(settings: LocalSettings) -> int:
    """Start the mesh, keep it running until a signal, stop it; returns the exit status."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopping.set)
    mesh = Mesh(settings, say)
    began = time.monotonic()
    say(f"starting the mesh on {mesh.data}")
    start = asyncio.create_task(mesh.start())
    stop = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
        if start.done():
            start.result()
            _welcome(mesh, time.monotonic() - began)
            await stop
        say("stopping")
        return 0
    except NotStarted as problem:
        say(str(problem))
        return 1
    except OSError as problem:
        say(f"the data folder {mesh.data} cannot be used: {problem.strerror} ({problem.filename})")
        return 1
    finally:
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
        await mesh.stop()
        say("stopped; the data stay in " + str(mesh.data))


def _welcome(mesh: Mesh, seconds: float) -> None:
    say(f"ready after {seconds:.1f} s")
    print(f"\n  REST gateway   http://{mesh.address}/v1\n  API docs       http://{mesh.address}/docs")
    print(f"  Health         http://{mesh.address}/readyz\n  gRPC stubs     {mesh.address}")
    print(f"  Logs           {mesh.supervisor.log_dir}")
    if mesh.new_admin:
        email, password = mesh.new_admin
        print(f"\n  Administrator, shown this once:\n    e-mail    {email}\n    password  {password}")
    print("\n  Ctrl-C stops everything.\n", flush=True)
    mesh.admin_was_shown()


def main() -> int:
    # The services read the environment alone, so `.env` becomes part of it here.
    os.environ.update(
        {name: value for name, value in dotenv_values(".env").items() if value and name not in os.environ}
    )
    try:
        settings = LocalSettings()
    except ValidationError as error:
        for problem in error.errors():
            say(f"THMNAYAH_{str(problem['loc'][0]).upper()}: {problem['msg']}")
        return 2
    return asyncio.run(run(settings))


if __name__ == "__main__":
    sys.exit(main())
