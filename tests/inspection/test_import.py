"""The import path that users are told: names, and what importing them loads."""

import subprocess
import sys

from swin_backbone import inspection
from swin_backbone.inspection import attention_of, feature_energy, features, reshape_transform


def test_the_package_exports_the_public_names() -> None:
    assert inspection.__all__ == features.__all__
    assert (attention_of, feature_energy, reshape_transform) == (
        features.attention_of,
        features.feature_energy,
        features.reshape_transform,
    )


def test_importing_needs_torch_alone() -> None:
    code = 'import sys, swin_backbone.inspection; print({"mmengine", "mmcv", "matplotlib", "cv2"} & set(sys.modules))'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout == 'set()\n'
