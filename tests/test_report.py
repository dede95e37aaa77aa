"""The report: complete, self-contained, and honest about what a change means."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import math
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from made_up_session import STEP, MadeUpSession
from spinemat.layout import load_layout
from spinemat_bringup.cli_report import report_after
from spinemat_bringup.reporting import course_of
from spinemat_recording.change import NO_CHANGE, NOT_JUDGED, NOT_TWICE, compare, difference
from spinemat_recording.course import (
    Course,
    Hands,
    LevelCourse,
    LevelDay,
    Visit,
    Week,
    write_course,
)
from spinemat_recording.record import Level, RecordError
from spinemat_recording.report import write_report
from spinemat_recording.session_record import read_session
from spinemat_recording.treatment import breath_at, presses, steps
from spinemat_session.record import Dose, MeasuredLevel, Store

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


def weeks(*values: float, error: float) -> tuple[Week, ...]:
    return tuple(Week(i, value, error, 5) for i, value in enumerate(values))


def course() -> Course:
    day = datetime.date(2030, 1, 7)
    return Course(
        "made-up-7",
        day,
        day + datetime.timedelta(days=20),
        (5, 4, 6),
        (
            LevelCourse("L5", weeks(12e3, 11e3, 10e3, error=300.0), -2e3, 831.6, "softer"),
            LevelCourse("L4", weeks(12e3, error=300.0), math.nan, math.nan, NOT_TWICE),
            LevelCourse("L3", weeks(12e3, 11.8e3, error=300.0), -200.0, 831.6, NO_CHANGE),
        ),
        {
            "evenness": weeks(0.90, 0.91, 0.91, error=0.01),
            "pain": weeks(6.0, 5.0, 3.0, error=0.5),
            "sleep": weeks(5.0, 6.0, error=math.nan),
            "kyphosis_rad": weeks(0.60, 0.61, 0.59, error=0.02),
            "asymmetry_m": weeks(0.001, 0.003, error=0.0002),
        },
        (
            Visit(day, "s-1", "daily_5", "broken_off", "power <cut>", 200.0, 4.0, 12.5, 4.0),
            Visit(day, "s-2", "daily_5", "completed", "", 300.0, 8.0, 12.5, None),
        ),
        (LevelDay(day, "L5", 4.0, 12.5, 30), LevelDay(day, "L4", 0.0, 0.0, 0)),
        (Hands(day, "L5", 7.0, 12e3, 300.0, "firm"),),
        ((day, "sleeps on the side"),),
    )


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
            "course": course(),
            "gated": {STEP: True},
            "outcomes": [
                {"moment": "before", "kind": "pain", "item": "", "value": 5.0, "text": "dull"}
            ],
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
        "glance",
        "screening",
        "comfort",
        "safety",
        "picture",
        "contour",
        "heights",
        "stiffness",
        "changes",
        "neck",
        "sides",
        "findings",
        "dose",
        "doses",
        "steps",
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
        "Overridden by clinician-3",
        "“seen last week”",
        "T7 (× 1.31, probability 93%)",
        "L4 (right stiffer, 14%, probability 88%)",
        "Highest pain reported: 4 of 10 (place: L4)",
        "less force at L4",
        "Protective tension was felt once",
        "1.6 times the expected",
        "Suggestion: low back, from made-up complaints.",
    ):
        assert words in page.text, words


def test_nothing_is_fetched(page: Page, folder: Path) -> None:
    assert page.addresses and all(a.startswith("data:") for a in page.addresses)
    assert not page.tags & {"script", "link", "iframe", "object", "embed"}
    text = (folder / "report.html").read_text(encoding="utf-8")
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert "@media print" in style and "size: A4" in style and "viewport" in text
    assert str(folder) not in text


def test_every_figure_says_what_it_shows(page: Page) -> None:
    assert len(page.images) == 10
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


def test_a_gain_within_chance_is_no_change(page: Page) -> None:
    text = page.text
    assert "Evenness of movement, % 90.0 ± 2.0 95.2 ± 2.0 +5.2 2.8 more even" in text
    assert "Contour, largest difference" in text
    assert "Kyphosis T1–T12, ° 35.5 ± 4.5 35.8 ± 4.5 +0.2 6.4 no measurable change" in text
    assert "Skin, right higher than left, mm 0.6 ± 0.2 0.6 ± 0.2 0.0 0.3 no measurable" in text


def test_a_change_whose_error_is_not_known_is_not_judged() -> None:
    """Records of before the angles had an error still show both angles."""
    found = difference((0.62, np.nan), (0.65, np.nan), "less", "more")
    assert found.verdict == NOT_JUDGED and found.change == pytest.approx(0.03)
    assert np.isnan(found.detectable)
    assert difference((0.62, 0.1), (np.nan, np.nan), "less", "more").verdict == NOT_TWICE


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_tables_hold_the_record_in_si_units(page: Page, folder: Path) -> None:
    record = read_session(folder)
    rows = {(r["level"], r["side"]): r for r in table(folder, "levels")}
    for when, found in zip(("before", "after"), record.stiffness, strict=True):
        for entry in found.levels:
            row = rows[entry.level, entry.side.lower()]
            assert row[f"valid_{when}"] == str(entry.valid).lower()
            assert row[f"reason_{when}"] == entry.reason
            if entry.valid:
                assert float(row[f"stiffness_{when}_n_per_m"]) == entry.value
                assert float(row[f"standard_error_{when}_n_per_m"]) == entry.standard_error
            else:
                assert row[f"stiffness_{when}_n_per_m"] == ""
    l3 = rows["L3", "both"]
    errors = [float(l3[f"standard_error_{when}_n_per_m"]) for when in ("before", "after")]
    least = float(l3["minimal_detectable_change_n_per_m"])
    assert least == pytest.approx(1.96 * math.hypot(*errors))
    assert float(l3["change_n_per_m"]) < -least and l3["verdict"] == "softer"
    contour = [r for r in table(folder, "contour") if r["moment"] == "after"]
    np.testing.assert_array_equal([float(r["z_m"]) for r in contour], record.contours[-1].z)
    evenness = next(r for r in table(folder, "summary") if r["quantity"] == "evenness")
    assert float(evenness["before"]) == record.stiffness[0].evenness
    assert evenness["unit"] == "1" and evenness["verdict"] == "more even"
    kinds = {r["finding"] for r in table(folder, "findings")}
    assert kinds == {"tension point", "uneven sides"}
    assert [r["pain_0_to_10"] for r in table(folder, "comfort")] == ["4"]
    assert len(table(folder, "events")) == len(record.events)
    units = re.compile(r"(_m|_s|_n|_j|_hz|_rad|_n_per_m|_0_to_10)$")
    heads = {name: set(table(folder, name)[0]) for name in ("contour", "dose", "breathing")}
    for name, words in {
        "contour": {"moment"},
        "dose": {"level", "why", "planned_presses", "given_presses"},
        "breathing": {"quality", "valid"},
    }.items():
        assert all(units.search(column) for column in heads[name] - words), name


def test_what_was_given_stands_beside_what_was_planned(page: Page, folder: Path) -> None:
    record = read_session(folder)
    rows = {r["level"]: r for r in table(folder, "dose")}
    assert record.plan is not None and record.fingers is not None
    for dose in record.plan.levels:
        row = rows[dose.level]
        assert float(row["planned_peak_n"]) == dose.peak
        assert float(row["planned_work_j"]) == dose.work
        assert row["why"] == " ".join(dose.why)
    treat = next((a, b) for name, a, b in record.phases if name == "TREAT")
    inside = (record.fingers.t >= treat[0]) & (record.fingers.t < treat[1])
    lumbar = [i for i, region in enumerate(LAYOUT.regions) if region == "lumbar"]
    most = record.fingers.force[inside][:, lumbar].max()
    assert float(rows["L3"]["given_peak_n"]) == pytest.approx(most, rel=0.1)
    # 0.5 Hz over 6.4 s, with a stop of 1.5 s in between
    assert 2 <= float(rows["L3"]["given_presses"]) <= 4
    assert float(rows["L3"]["given_work_j"]) > 0.0 == float(rows["C1"]["given_presses"])
    assert "20.0 →" in page.text and "Stiffness of L3 is known well." in page.text
    assert page.text.count("The programme asks for this.") == 1, "said once for all its levels"


def test_presses_are_judged_by_the_breath(folder: Path) -> None:
    record = read_session(folder)
    found = presses(record)
    turns = breath_at(record, found.t)
    assert np.isfinite(turns).all()
    expected = (0.23 * found.t) % 1.0
    np.testing.assert_allclose((turns - expected + 0.5) % 1.0, 0.5, atol=0.01)
    (step,) = steps(record)
    assert step.words == STEP and step.judged == step.presses == found.t.size > 0
    out = (expected >= 0.4) & (expected < 1.0)
    assert step.expiring == pytest.approx(out.mean())


def broken_off(folder: Path, target: Path) -> int:
    """Copy a session as a power cut in its treatment leaves it; return its events."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("metadata.yaml", "tables"))
    lines = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    cut = next(i for i, line in enumerate(lines) if "treat begins" in line) + 1
    (target / "events.jsonl").write_text("".join(lines[:cut]) + '{"t": 9.')
    return cut


def test_a_recording_that_broke_off_still_gives_a_report(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    cut = broken_off(folder, broken)
    (broken / "bag" / "bag.mcap").write_bytes(b"")
    page = Page(write_report(broken, LAYOUT, PERSON, {}).read_text(encoding="utf-8"))
    assert "The recording is not whole" in page.text and "only what the events say" in page.text
    assert "The record breaks off in the phase “treat”" in page.text
    assert "Whether there was a safety stop is not recorded" in page.text
    assert "No stiffness was measured" in page.text and "No plan was recorded" in page.text
    assert not {"contour", "stiffness", "doses"} & set(page.ids)
    assert len(table(broken, "events")) == cut
    assert table(broken, "levels") == []
    (broken / "events.jsonl").unlink()
    with pytest.raises(RecordError):
        write_report(broken, LAYOUT, PERSON, {})


def test_what_is_complete_in_a_bag_that_was_cut_is_reported(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "cut"
    broken_off(folder, broken)
    bag = broken / "bag" / "bag.mcap"
    data = bag.read_bytes()
    bag.write_bytes(data[: int(0.75 * len(data))])
    page = Page(write_report(broken, LAYOUT, PERSON, {}).read_text(encoding="utf-8"))
    assert "The recording is not whole" in page.text and "cut short" in page.text
    assert "breaks off" in page.text and "measured once" in page.text
    assert {"stiffness", "doses", "steps"} <= set(page.ids)
    whole = {r["level"]: r for r in table(folder, "dose")}
    for row in table(broken, "dose"):
        assert row["planned_work_j"] == whole[row["level"]]["planned_work_j"]
        assert float(row["given_work_j"]) <= float(whole[row["level"]]["given_work_j"]) + 1e-9


def test_the_course_of_a_person_says_what_is_no_change(tmp_path: Path) -> None:
    written = write_course(tmp_path, course(), {})
    page = Page(written.read_text(encoding="utf-8"))
    text = page.text
    assert "Of 2 levels measured in the first and in a later week, 1 show no measurable" in text
    assert "1 measured softer (L5)" in text and "used on 15 of 21 days" in text
    assert "Evenness went from 90 to 91 % (no measurable change)" in text
    assert "Pain went from 6.0 to 3.0 of 10 (less)" in text
    assert NOT_JUDGED in text and NOT_TWICE in text
    assert "broken off: power <cut>" in text and "sleeps on the side" in text
    assert "no proof" in text and all(a.startswith("data:") for a in page.addresses)
    rows = table(tmp_path, "level_weeks")
    assert [float(r["stiffness_n_per_m"]) for r in rows if r["level"] == "L5"] == [
        12e3,
        11e3,
        10e3,
    ]
    assert table(tmp_path, "level_changes")[1]["change_n_per_m"] == ""
    assert "Kyphosis T1–T12, ° (weeks 1 and 3) 34.38 ± 2.25 33.80 ± 2.25 −0.57" in text
    assert "right higher than left, mm (weeks 1 and 2) 1.00 ± 0.39 3.00 ± 0.39 +2.00" in text
    units = {r["measure"]: r["unit"] for r in table(tmp_path, "weeks")}
    assert units == {
        "evenness": "1", "pain": "0 to 10", "sleep": "0 to 10", "kyphosis_rad": "rad",
        "asymmetry_m": "m",
    }  # fmt: skip
    assert [r["days_used"] for r in table(tmp_path, "use")] == ["5", "4", "6"]


def test_the_database_hands_over_the_course(tmp_path: Path) -> None:
    at = datetime.datetime(2030, 1, 7, 8, 0, tzinfo=datetime.timezone.utc)
    with Store(tmp_path / "spinemat.db") as store:
        for week, (stiffness, arm) in enumerate(((12e3, None), (10e3, "sham"))):
            name, now = f"s-{week}", at + datetime.timedelta(weeks=week)
            store.begin_session(name, "p-1", {}, at=now, programme="daily_5", allocation=arm)
            level = MeasuredLevel("L3", stiffness, 200.0, 554.0, True)
            store.add_levels(name, "before", [level], at=now)
            store.add_dose(name, [Dose("L3", 2.0, 15.0, 10.0, 5)], at=now)
            store.add_comfort(name, "L3", 4, at=now)
            now += datetime.timedelta(minutes=5)
            store.end_session(name, "completed", at=now)
        found = course_of(store, "p-1", datetime.date(2030, 1, 28))
    assert found.days_used == (1, 1, 0, 0) and found.days == 22
    (level,) = found.levels
    assert (level.level, level.verdict, level.change) == ("L3", "softer", -2e3)
    first, second = found.visits
    assert first[2:4] == ("daily_5", "completed")
    assert (first.seconds, first.work, first.peak, first.most_pain) == (300.0, 2.0, 15.0, 4.0)
    assert second.programme == "(trial)" and math.isnan(second.work), "an arm stays hidden"
    write_course(tmp_path, found, {})
    assert table(tmp_path, "sessions")[1]["work_j"] == ""
    assert table(tmp_path, "doses") == [
        {"day": "2030-01-07", "level": "L3", "work_j": "2.0", "peak_n": "15.0", "presses": "5"}
    ]


def test_the_report_after_a_session_has_the_weeks_of_the_mats_own_database(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "sessions" / "s-2"
    MadeUpSession(LAYOUT, folder, 6.0, truth=False, stop=False).write()
    with Store(tmp_path / "elsewhere.db") as store:
        for i in range(3):
            at = datetime.datetime.now().astimezone() - datetime.timedelta(weeks=2 - i)
            store.begin_session(f"s-{i}", "p-1", {}, at=at, programme="daily_5")
            store.add_outcome("p-1", "pain", 6 - i, at=at, session_id=f"s-{i}", moment="before")
            store.end_session(f"s-{i}", "completed", at=at)
    report_after(folder, str(tmp_path / "elsewhere.db"))
    assert len(table(folder, "weeks")) > 1
    report_after(folder, "postgresql://nobody@127.0.0.1:9/none")
    text = Page((folder / "report.html").read_text(encoding="utf-8")).text
    assert "Sessions before this one are not known" in text


def test_a_course_of_one_session_has_nothing_to_compare(tmp_path: Path) -> None:
    day = datetime.date(2030, 1, 7)
    page = Page(write_course(tmp_path, Course("p", day, day, (1,)), {}).read_text())
    assert "nothing can be said about change" in page.text


def test_the_weeks_stand_in_the_session_report_too(page: Page, folder: Path) -> None:
    assert {"course", "level-weeks", "outcomes"} <= set(page.ids)
    assert "in step with the breath" in page.text and "dull" in page.text
    assert len(table(folder, "weeks")) == 13


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
    assert "No plan was recorded" in page.text
    assert not {"contour", "stiffness", "rhythm", "findings", "doses"} & set(page.ids)


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
