"""``python -m equikernels.cli``, which launchers of several processes start."""

import sys

from equikernels.cli import main

sys.exit(main())
