"""`python -m modelsurgeon_cli`, the same as `modelsurgeon`."""

import sys

from modelsurgeon_cli import main

sys.exit(main())
