"""What needs an NVIDIA GPU, and says so where there is none."""

import pytest


@pytest.fixture(autouse=True)
def gpu() -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch (pip install 'sonostream[train]')")
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU that PyTorch can use; there is none here")
