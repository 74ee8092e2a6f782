"""The tests. Importing `deploy` first keeps grpc from handling the forks of what they start."""

import deploy as deploy
