"""Scripts are run, not imported; their tests reach the packages beside them here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
