"""Lint, format and breaking-change check of the contracts, without a network: python -m protos.check [REVISION].

buf reads the compiled descriptors, so it need not fetch what they import. Given a revision (a tag, a
commit), the contracts must still serve the clients of those that stood there.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

from protos.build import DESCRIPTORS, PROTOS, ROOT, STUBS, compile_protos

BUF = shutil.which("buf", path=str(Path(sys.executable).parent)) or "buf"
OURS = ["--config", str(ROOT / "buf.yaml"), "--path", "thmnayah"]


def main() -> int:
    """Returns the exit status: 0 when everything holds."""
    compile_protos()
    image = str(STUBS / DESCRIPTORS)
    checks = [
        [BUF, "format", "--diff", "--exit-code", str(PROTOS)],
        [BUF, "lint", image, *OURS],
    ]
    with tempfile.TemporaryDirectory() as scratch:
        before = _compiled_at(sys.argv[1], Path(scratch)) if len(sys.argv) > 1 else None
        if before is not None:
            checks.append([BUF, "breaking", image, "--against", str(before), *OURS])
        return max(subprocess.run(check, check=False).returncode for check in checks)


def _compiled_at(revision: str, scratch: Path) -> Path | None:
    """The descriptors of the contracts at a revision; None when it had none."""
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", revision, "protos"], capture_output=True, check=False)
    if archive.returncode != 0:
        return None
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(scratch, filter="data")
    compile_protos(scratch / "protos", scratch / "stubs")
    return scratch / "stubs" / DESCRIPTORS


if __name__ == "__main__":
    sys.exit(main())
