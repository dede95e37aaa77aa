"""The report: complete, self-contained, and honest about what a change means."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from made_up_session import MadeUpSession
from spinemat.layout import load_layout
from spinemat_recording.change import NO_CHANGE, compare
from spinemat_recording.record import Level, RecordError
from spinemat_recording.report import write_report
from spinemat_recording.session_record import read_session

LAYOUT = load_layout(Path(__file__).parents[1] / "config" / "mat.yaml")
PERSON = {
    "person_id": "made-up-<7>",
    "sex": "female",
    "age": 44.0,
    "stature": 1.68,
    "mass": 66.0,
    "programme": "low_back",
}
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects ids, images and texts, and checks that tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.images: list[dict[str, str]] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {k: v or "" for k, v in attrs}
        self.tags.add(tag)
        self.addresses += [known[k] for k in ("src", "href", "srcset", "data") if k in known]
        if "id" in known:
            self.ids.append(known["id"])
        if tag == "img":
            self.images.append(known)
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        """What a person reads, with single blanks."""
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("report") / "made-up-1"
    MadeUpSession(LAYOUT, target, 16.0).write()
    return target


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    x = np.linspace(-0.3, 0.7, 30)
    image = folder / "picture.png"
    matplotlib.image.imsave(image, np.zeros((40, 60)))
    path = write_report(
        folder,
        LAYOUT,
        PERSON,
        {
            "date": "2026-01-02",
            "software": "SpineMat test",
            "pressure": {
                "x": x,
                "model": 1 + x,
                "maps": 1 + x,
                "maps_low": 0.5 + x,
                "maps_high": 2 + x,
                "correlation": 0.91,
                "ceiling": 0.94,
                "method": "made up",
            },
            "picture": image,
            "suggestions": ["levels L3 to L5"],
            "checks": [
                {"name": "a", "value": 1.0, "limit": 2.0, "relation": "≤", "pass": True},
                {"name": "b", "value": math.nan, "limit": 2.0, "relation": "≤", "pass": False},
            ],
        },
    )
    assert path == folder / "report.html"
    assert path.stat().st_size < 3_000_000
    return Page(path.read_text(encoding="utf-8"))


def test_every_section_is_there(page: Page) -> None:
    for section in (
        "header",
        "summary",
        "picture",
        "contour",
        "stiffness",
        "changes",
        "neck",
        "sides",
        "forces",
        "rhythm",
        "breathing",
        "load",
        "judged",
        "checks",
        "suggestions",
        "timeline",
        "limits",
    ):
        assert page.ids.count(section) == 1, section
    for words in (
        "made-up-<7>",
        "168 cm",
        "66 kg",
        "low_back",
        "made-up-1",
        "2026-01-02",
        "SpineMat test",
        "Simulated: no person was on a mat",
        "35.5°",
        "0.35 mm",
        "breaths per minute",
        "0.91",
        "✓ met",
        "✗ not met",
        "■ stop",
        "hand control was released",
    ):
        assert words in page.text, words


def test_nothing_is_fetched(page: Page, folder: Path) -> None:
    assert page.addresses and all(a.startswith("data:") for a in page.addresses)
    assert not page.tags & {"script", "link", "iframe", "object", "embed"}
    text = (folder / "report.html").read_text(encoding="utf-8")
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert "@media print" in style and "viewport" in text
    assert str(folder) not in text


def test_every_figure_says_what_it_shows(page: Page) -> None:
    assert len(page.images) == 7
    for image in page.images:
        assert len(image["alt"]) > 20
        assert re.match(r"data:image/(svg\+xml|png|jpeg);base64,[A-Za-z0-9+/=]+$", image["src"])


def test_the_words_are_honest(page: Page) -> None:
    text = page.text
    assert "5 measured softer (L5, L4, L3, L2, L1)" in text
    assert "11 show no measurable change" in text
    assert text.count("no measurable change") >= 11
    assert "before and after: no finger pair within 25 mm of this level" in text
    assert "1.96 × √" in text and "two preconditioning cycles" in text
    assert "measured with the person lying prone, pressed from above" in text
    assert "not resolvable level by level" in text and "46 mm apart" in text
    assert "not a diagnosis" in text and "not a medical device" in text
    assert "not a prescription" in text
    assert text.count("Method:") >= 5


def test_a_session_cut_short_on_a_real_mat(tmp_path: Path) -> None:
    made_up = MadeUpSession(LAYOUT, tmp_path, 6.0, truth=False, stop=False)
    cut = made_up.phases[4][1]  # treatment never began
    made_up.phases = [*made_up.phases[:4], ("ABORTED", cut, made_up.t[-1] + 1)]
    made_up.write()
    text = Page(write_report(tmp_path, LAYOUT, {}, {}).read_text(encoding="utf-8")).text
    assert "ended early" in text
    assert "measured once, so nothing can be said about change" in text
    assert "not measured twice" in text
    assert "Real mat" in text and "There was no safety stop" in text
    assert "root mean square; known only in simulation" not in text
    for section in ("Load along the back", "Checks", "Suggestions", "Picture", "close up"):
        assert section not in text


def test_nothing_measured_still_gives_a_report(tmp_path: Path) -> None:
    made_up = MadeUpSession(LAYOUT, tmp_path, 2.0, truth=False, stop=False)
    made_up.phases = [("ON_MAT", made_up.t[0], made_up.t[-1] + 1)]
    made_up.write()
    page = Page(write_report(tmp_path, LAYOUT, PERSON, {}).read_text(encoding="utf-8"))
    assert "No stiffness was measured" in page.text
    assert not {"contour", "stiffness", "rhythm"} & set(page.ids)


def test_another_mat_is_refused(folder: Path) -> None:
    small = dataclasses.replace(LAYOUT, rows=LAYOUT.rows[:4])
    with pytest.raises(RecordError, match="26 fingers were recorded"):
        write_report(folder, small, PERSON, {})


@pytest.mark.parametrize(
    ("after", "verdict"),
    [(10.0e3, NO_CHANGE), (10.8e3, NO_CHANGE), (10.9e3, "stiffer"), (9.1e3, "softer")],
)
def test_only_a_change_beyond_its_detectable_one_is_called_so(after: float, verdict: str) -> None:
    def level(value: float) -> Level:
        return Level("L3", "BOTH", 0.1, value, 300.0, 1.96 * math.sqrt(2) * 300.0, True, "")

    change = compare("L3", "BOTH", level(10.0e3), level(after))
    assert change.verdict == verdict
    assert change.detectable == pytest.approx(0.8316, abs=1e-4)  # N/mm


def test_the_results_before_and_after_treatment_are_chosen(tmp_path: Path) -> None:
    """Maps that grow while they are measured are published more than once."""
    made_up = MadeUpSession(LAYOUT, tmp_path, 4.0, stop=False)
    plain = made_up.messages

    def growing() -> Iterator[tuple[float, str, Any]]:
        for time, name, message in plain():
            if name == "stiffness":
                half = made_up.stiffness_map(time)
                half.levels = half.levels[:9]
                yield time, name, half
            yield time, name, message

    made_up.messages = growing
    made_up.write()
    record = read_session(tmp_path)
    assert record.counts["stiffness"] == 4
    assert [len(m.levels) for m in record.stiffness] == [53, 53]
