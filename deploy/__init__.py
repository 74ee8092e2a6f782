"""How Thmnayah is run: on one machine, with Compose, on Kubernetes."""
