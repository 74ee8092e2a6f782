"""Prints the SQL of services' migrations, to be reviewed: python -m libs.migrations services/content …"""

import contextlib
import io
import sys
from pathlib import Path

from alembic import command

from libs import migrations


def main() -> None:
    for service in sys.argv[1:]:
        config = migrations.alembic_config(Path(service) / "migrations")
        print(*migrations.MIGRATION_SESSION, "", sep=";\n")
        config.output_buffer = io.StringIO()
        with contextlib.redirect_stderr(io.StringIO()):
            command.upgrade(config, "head", sql=True)
        print(config.output_buffer.getvalue())


if __name__ == "__main__":
    main()
