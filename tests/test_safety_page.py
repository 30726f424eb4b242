"""The page on hazards names tests; they must be there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "SAFETY.md").read_text()
TESTS = {
    name
    for file in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)\(", file.read_text(), re.MULTILINE)
}
HAZARDS = (
    *("old", "wrong frame", "flipped", "wrong scale", "wrong patient", "Something breaks"),
    *("hostile input", "Strangers", "Private data", "Too much trust"),
)


def test_every_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))

    assert len(named) > 60
    assert named - TESTS == set()


def test_every_hazard_has_a_test_and_says_what_remains() -> None:
    sections = PAGE.split("\n## ")[1:]
    titles = [section.partition("\n")[0] for section in sections]

    assert [hazard for hazard in HAZARDS if not any(hazard in title for title in titles)] == []
    for title, section in zip(titles, sections, strict=True):
        assert "`test_" in section, title
        assert "What remains: " in section, title


def test_the_page_claims_no_certification() -> None:
    assert "not a medical device" in PAGE
    assert "has not been certified" in PAGE
