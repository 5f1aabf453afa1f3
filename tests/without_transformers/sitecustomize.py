"""Start Python without Transformers, which MMDetection imports wherever it is installed: four seconds a process."""

import sys

sys.modules['transformers'] = None
