"""Compile protos/ into build/stubs/: typed stubs and one descriptor set. Nothing there is committed.

`make protos` does it by hand; the package's build hook does it for `pip install`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, field_mask_pb2, timestamp_pb2
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from protovalidate._gen.buf.validate import validate_pb

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
STUBS = ROOT / "build" / "stubs"

# Envoy, the OpenAPI document and the boundary read it at run time, so it ships beside the stubs.
DESCRIPTORS = "thmnayah/api/v1/descriptors.binpb"

# protovalidate ships the descriptor of its rules but not their source, nor Python stubs for
# Google's protobuf runtime: those are compiled along with ours.
VALIDATE = "buf/validate/validate.proto"

# The transcoder prints error details only if it knows their types.
ERROR_DETAILS = "google/rpc/error_details.proto"


def compile_protos(protos: Path = PROTOS, stubs: Path = STUBS) -> None:
    """Leave in `stubs` what `protos` says, and nothing older.

    Raises:
        subprocess.CalledProcessError: protoc refused a file and said why on standard error.
    """
    shutil.rmtree(stubs, ignore_errors=True)
    (stubs / DESCRIPTORS).parent.mkdir(parents=True)
    ours = sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        rules = Path(scratch) / "rules.binpb"
        rules.write_bytes(_rules_descriptor_set())
        includes = [f"-I{protos}", f"-I{_includes('google.api')}", f"-I{files('grpc_tools') / '_proto'}"]
        # protoc looks for its plugins on the PATH, which lacks an environment that was not activated.
        environ = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        protoc = [sys.executable, "-m", "grpc_tools.protoc", *includes, f"--descriptor_set_in={rules}"]
        subprocess.run(
            [*protoc, f"--python_out={stubs}", f"--mypy_out=quiet:{stubs}", VALIDATE, *ours],
            check=True,
            env=environ,
        )
        subprocess.run(
            [*protoc, f"--grpc_python_out={stubs}", f"--mypy_grpc_out=quiet:{stubs}", *ours],
            check=True,
            env=environ,
        )
        subprocess.run(
            [
                *protoc,
                f"--descriptor_set_out={stubs / DESCRIPTORS}",
                "--include_imports",
                "--include_source_info",
                ERROR_DETAILS,
                *ours,
            ],
            check=True,
            env=environ,
        )


def _includes(package: str) -> Path:
    """The folder that a package's .proto files name themselves from."""
    depth = package.count(".") + 1
    return Path(str(files(package) / "annotations.proto")).parents[depth]


def _rules_descriptor_set() -> bytes:
    result = descriptor_pb2.FileDescriptorSet()
    for module in (descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2):
        descriptor_pool.Default().FindFileByName(module.DESCRIPTOR.name).CopyToProto(result.file.add())
    result.file.add().ParseFromString(validate_pb.desc().proto.to_binary())
    return result.SerializeToString()


class BuildHook(BuildHookInterface[Any]):
    """Lets `pip install` of this project bring its stubs."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        compile_protos()
        if version == "standard":  # an editable install finds the stubs where they are
            build_data["force_include"][str(STUBS)] = "/"


if __name__ == "__main__":
    compile_protos()
