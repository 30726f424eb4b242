import io
import sys

import pytest
from rich.console import Console

import models
from models.listing import models_command


def test_the_listing_shows_every_network_and_its_cost() -> None:
    text = io.StringIO()

    assert models_command(Console(file=text, width=160)) == 0

    lines = [line.split() for line in text.getvalue().splitlines()]
    shown = [line[0] for line in lines if line and line[0] in models.list_models()]
    assert shown == 2 * models.list_models()
    for name in ("mtl_oca", "la_net_r18"):
        first, second = (line for line in lines if line[:1] == [name])
        known = models.describe(name)
        assert first[1:4] == [f"{known.parameters:,}", f"{known.gmacs:.2f}", known.input]
        assert "Apache-2.0;" in second


def test_without_torch_the_listing_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr("models.listing.find_spec", lambda name: None if name == "torch" else name)

    assert models_command() == 2
    assert capsys.readouterr().err == "sonostream models needs torch: pip install 'sonostream[train]'\n"
