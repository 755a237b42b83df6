"""`python -m kinesphere`, the same program as `kinesphere`."""

import sys

from kinesphere.cli.main import main

sys.exit(main())
