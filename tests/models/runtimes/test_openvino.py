"""What OpenVINO is asked for."""

from pathlib import Path
from typing import Any

import openvino as ov
import pytest

from models.runtimes import cpu, load


@pytest.mark.parametrize(("threads", "pinned"), [(1, False), (2, True)])
def test_workers_are_pinned_only_where_they_fill_the_machine(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, threads: int, pinned: bool
) -> None:
    asked: list[dict[str, Any]] = []
    compile_model = ov.Core.compile_model

    def watched(core: ov.Core, model: ov.Model, device: str, config: dict[str, Any]) -> ov.CompiledModel:
        asked.append(config)
        return compile_model(core, model, device, config)

    monkeypatch.setattr(ov.Core, "compile_model", watched)
    monkeypatch.setattr(cpu, "allowed_cores", lambda: 2)

    load(tiny, "openvino", threads=threads)

    assert [config["ENABLE_CPU_PINNING"] for config in asked] == [pinned]
    assert [config["INFERENCE_NUM_THREADS"] for config in asked] == [str(threads)]
