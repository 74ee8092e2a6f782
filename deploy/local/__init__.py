"""The whole mesh as real processes on one machine: what `make run` starts, and the tests too."""
