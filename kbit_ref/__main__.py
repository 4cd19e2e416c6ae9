"""`python -m kbit_ref` is `kbit-ref`."""

import sys

from kbit_ref.cli import main

sys.exit(main())
