"""Configuring and activating the managed nodes of a mat, as the command line does.

For the launch files: `bring_up NAMESPACE NODE …`; the order counts.
"""

from __future__ import annotations

import sys

from spinemat_bringup.client import MatClient, NoAnswer
from spinemat_bringup.graph import NodeSpec

WAIT = 120.0  # s for the nodes to come up


def main() -> None:
    """Run the program."""
    namespace, *names = sys.argv[1:]
    nodes = [NodeSpec(name, "", "", lifecycle=True) for name in names]
    try:
        with MatClient(namespace) as client:
            client.bring_up(nodes, WAIT)
    except NoAnswer as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
