"""How Thmnayah is run: on one machine, with Compose, on Kubernetes."""

import os

# Before anything imports grpc, which would otherwise handle the fork of every part we start, and now and
# then kill the part at birth.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
