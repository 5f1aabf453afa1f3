"""The public import path: its names, and the modules that it imports."""

import subprocess
import sys

from swin_backbone import inspection
from swin_backbone.inspection import attention_of, feature_energy, features, reshape_transform


def test_package_exports_the_public_names() -> None:
    assert inspection.__all__ == features.__all__
    assert (attention_of, feature_energy, reshape_transform) == (
        features.attention_of,
        features.feature_energy,
        features.reshape_transform,
    )


def test_import_needs_only_torch() -> None:
    code = 'import sys, swin_backbone.inspection; print({"mmengine", "mmcv", "matplotlib", "cv2"} & set(sys.modules))'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout == 'set()\n'
