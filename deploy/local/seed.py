"""Puts the sample content into the mesh that runs here: python -m deploy.local.seed."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from deploy.local.mesh import Mesh
from deploy.local.processes import NotStarted
from deploy.local.settings import LocalSettings

CONTENTS = Path(__file__).parent.parent / "seed" / "contents.jsonl"
EDITOR = "sample-editor@thmnayah.local"


def main() -> int:
    """Import as an editor of the installation's own, over the public API like anyone else."""
    try:
        mesh = Mesh.running(LocalSettings(), print)
        password = asyncio.run(mesh.editor(EDITOR))
    except NotStarted as problem:
        print(problem)
        return 1
    environ = os.environ | {
        "THMNAYAH_SERVER": mesh.address,
        "THMNAYAH_CONFIG_DIR": str(mesh.data / "run" / "cli"),
        "THMNAYAH_PASSWORD": password,
    }
    program = str(Path(sys.executable).parent / "thmnayah")
    for arguments in (["login", EDITOR], ["content", "import", str(CONTENTS), "--publish"]):
        status = subprocess.run([program, *arguments], env=environ, check=False).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
