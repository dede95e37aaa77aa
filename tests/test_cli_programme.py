"""The commands that need no mat: programmes, people and the record, as a user meets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from command_line import spinemat
from people import HEALTHY, PERSONS
from planning import FOLDER, PROGRAMMES
from spinemat.back_model import UP
from spinemat.conditions import CONDITIONS
from spinemat.questionnaire import Comfort, load_person
from spinemat.session_programme import PATTERNS
from spinemat.symptoms import Symptom
from spinemat_bringup import cli_person, cli_programme
from spinemat_bringup.cli_common import console
from spinemat_session.record import Dose, MeasuredLevel, Store

AT = datetime(2030, 1, 7, 8, 0, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep sentences on one line."""
    monkeypatch.setattr(console, "width", 240)


def written(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def broken(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    data = yaml.safe_load((FOLDER / "lower_back.yaml").read_text())
    change(data)
    return written(folder, "lower_back.yaml", data)


# ---- programmes ----------------------------------------------------------------------------


def test_all_programmes_that_ship_are_listed_and_in_order() -> None:
    status, listed = spinemat("programme", "list")
    assert status == 0
    status, checked = spinemat("programme", "check")
    assert status == 0
    assert len(checked.splitlines()) == len(PROGRAMMES)
    for name, programme in PROGRAMMES.items():
        assert name in listed and programme.about in listed
        assert f"{name}: in order" in checked


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["phases"][2].update(rate=9), ("phases[2].rate", "9", "0.2 to 1.5 Hz")),
        (lambda d: d["phases"][0].update(kind="press"), ("phases[0].kind", "'press'", "mobilise")),
        (lambda d: d.update(minutes=40), ("minutes", "40", "about 12.9")),
        (lambda d: d.pop("title"), ("title", "None", "must be given")),
    ],
)
def test_a_fault_is_one_line_with_field_value_and_what_is_allowed(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], words: tuple[str, ...]
) -> None:
    path = broken(tmp_path, change)
    status, output = spinemat("programme", "check", path, "daily_5")
    assert status == 1
    fault, good = output.splitlines()
    assert fault.startswith(f"{path}: ") and good.startswith("daily_5: in order")
    for word in words:
        assert word in fault


def test_a_name_that_does_not_ship_is_refused_with_those_that_do() -> None:
    for command in ("check", "show"):
        status, output = spinemat("programme", command, "nonsense")
        assert status == 1 and "nonsense" in output and ", ".join(PROGRAMMES) in output


def test_show_has_the_phases_the_times_and_what_the_patterns_mean() -> None:
    status, output = spinemat("programme", "show", "mobile_spine")
    assert status == 0
    assert "grade III, 90%" in output and "3 × 45 s at 0.5 Hz, rest 60 s" in output
    assert "12:15 of them pressing" in output
    assert "alternating thoracic and lumbar extension" in output  # what cat_cow is
    assert "flexion is unloading" in output
    assert set(cli_programme.MEANING) == set(PATTERNS)
    for name in PROGRAMMES:
        assert spinemat("programme", "show", name)[0] == 0


def test_the_same_programme_is_forecast_differently_for_two_people(tmp_path: Path) -> None:
    found = {}
    for name in ("athlete_25", "degeneration_45"):
        file, picture = tmp_path / f"{name}.json", tmp_path / f"{name}.png"
        status, output = spinemat(
            "programme", "forecast", "lower_back", "--person", PERSONS / f"{name}.yaml",
            "--picture", picture, "--json", file,
        )  # fmt: skip
        assert status == 0 and "FAIL" not in output
        assert picture.read_bytes().startswith(b"\x89PNG")
        found[name] = json.loads(file.read_text())
        for sentence in found[name]["plan"]["levels"][0]["why"] + found[name]["plan"]["notes"]:
            assert sentence in output
    athlete, worn = (of["forecast"] for of in found.values())
    assert len(athlete["force"]) == 24
    assert worn["force"][0] < 0.8 * athlete["force"][0]  # L5
    assert worn["work"][0] < athlete["work"][0]
    assert "Mild disc degeneration" in " ".join(found["degeneration_45"]["plan"]["notes"])


def test_a_felt_back_changes_the_forecast_and_its_reasons() -> None:
    forecast = ("programme", "forecast", "lower_back", "--person", PERSONS / "athlete_25.yaml")
    _, before = spinemat(*forecast)
    status, felt = spinemat(*forecast, "--patient", "athlete_25")
    assert status == 0
    assert "Stiffness not known here" in before and "of the own trend" not in before
    assert "of the own trend" in felt
    status, worker = spinemat(*forecast, "--patient", "desk_worker_45")
    assert status == 0 and "Stiffness 13.4 ± 0.7 N/mm" in worker  # L4, stiffer than the others
    assert worker.count("surely stiffer") >= 2


def test_a_forecast_is_judged_by_what_this_person_may_bear(tmp_path: Path) -> None:
    file = tmp_path / "forecast.json"
    status, output = spinemat(
        "programme", "forecast", "lower_back", "--person", PERSONS / "degeneration_45.yaml",
        "--json", file,
    )  # fmt: skip
    assert status == 0
    lines = [line.replace("│", " ").split() for line in output.splitlines()]
    limits = {row[0]: row[2] for row in lines if len(row) == 6 and row[0] in UP}
    assert limits == {"L1": "30.0", "L2": "25.5", "L3": "25.5", "L4": "21.0", "L5": "21.0"}
    found = json.loads(file.read_text())
    shares = [f / m for f, m in zip(found["forecast"]["force"], found["limit"], strict=True) if f]
    (share,) = (c["value"] for c in found["checks"] if "this person's limit" in c["name"])
    assert share == pytest.approx(max(shares)) and 0.2 < share <= 0.95


def test_a_forecast_knows_the_persons_last_scan_and_sessions(tmp_path: Path) -> None:
    """The dose of two hours ago is rested on, and a third session on a day is too early."""
    database, file = tmp_path / "spinemat.db", tmp_path / "forecast.json"
    forecast = ("programme", "forecast", "lower_back", "--person", PERSONS / "athlete_25.yaml",
                "--json", file)  # fmt: skip

    def seen(*more: Any) -> tuple[str, dict[str, Any]]:
        status, output = spinemat(*forecast, *more)
        assert status == 0, output
        return output, json.loads(file.read_text())

    assert spinemat(*forecast, "--database", database)[0] == 1 and not database.exists()
    _, of_first = seen()
    now = datetime.now(timezone.utc)

    def came(store: Store, name: str, hours: float, stiffness: float) -> None:
        at = now - timedelta(hours=hours)
        store.begin_session(name, "athlete-25", {"age": 25}, at=at, programme="lower_back")
        scan = [
            MeasuredLevel(level, stiffness, 0.05 * stiffness, 2e3, level != "L1")
            for level in ("L1", "L2", "L3", "L4", "L5")
        ]
        store.add_levels(name, "before", scan, at=at)
        store.add_levels(name, "after", [MeasuredLevel("L4", 5e3, 2e2, 6e2, True)], at=at)
        store.add_dose(name, [Dose("L4", 3.0, 20.0, 60.0, 40)], at=at)
        store.end_session(name, "completed", at=at + timedelta(minutes=20))

    with Store(database) as store:
        store.begin_session("other", "someone", {"age": 45}, at=now, programme="lower_back")
        store.end_session("other", "completed", at=now)
        output, of_other = seen("--database", database)
        assert "the record has no scan of athlete-25" in output
        assert of_other["forecast"] == of_first["forecast"]
        came(store, "s1", 50.0, 9e3)
        came(store, "s2", 3.0, 12e3)
    output, later = seen("--database", database)
    assert f"as felt on {(now - timedelta(hours=3.0)).date()}" in output
    assert "Stiffness 12.0 ± 0.6 N/mm" in output and "Stiffness not known here" in output
    assert later["limit"][1] == pytest.approx(0.5 * of_first["limit"][1])  # L4 rests
    assert later["forecast"]["force"][1] < of_first["forecast"]["force"][1]
    with Store(database) as store:
        came(store, "s3", 1.0, 12e3)
    status, output = spinemat(*forecast, "--database", database)
    assert status == 1 and "a session now" in output


def test_a_course_is_forecast_at_its_gentle_beginning() -> None:
    person = PERSONS / "athlete_25.yaml"
    _, output = spinemat("programme", "forecast", "course_8_weeks", "--person", person)
    assert "Course: week 1 of 8" in output


# ---- people --------------------------------------------------------------------------------


def person(folder: Path, *conditions: str, **changes: Any) -> Path:
    answers = [{"name": name, "levels": []} for name in conditions]
    return written(folder, "someone.yaml", HEALTHY | {"conditions": answers} | changes)


def test_the_questions_are_listed_with_what_a_yes_means() -> None:
    status, output = spinemat("person", "list-conditions")
    assert status == 0
    for words in ("pacemaker", "no session", "at most 70% of the press limit", "PMC1116959"):
        assert words in output


def test_a_person_is_shown_with_limits_and_suggestions_that_name_their_source() -> None:
    status, output = spinemat("person", "check", *sorted(PERSONS.glob("*.yaml")))
    assert status == 0
    lines = [line.split() for line in output.splitlines()]
    assert ["│", "L4", "–", "L5", "│", "70%", "│", "21.0", "N", "│", "100%", "│"] in lines
    for words in (
        "degeneration-45: male, 45 years",
        "Suggestion: low back (5 of 10) points to L3–S1",
        "Source of the levels suggested",
        "79% mobility, 21% stability",
        "left out",
        "Where to lie: upper edge of the sacrum 30 mm below the first row of fingers.",
    ):
        assert words in output


YES = {"mild_disc_degeneration": "L4 L5"}  # in the interview; the place follows


def interview(*yes: str) -> list[str]:
    """Answers to all questions, up to those of the screening."""
    answers = ["Anna B", "p-7", "female", "17", "45", "1.78", "84"]
    for c in CONDITIONS.values():
        answers.append("y" if c.name in yes else "n")
        if c.name in yes and c.placed:
            answers += ["L9", YES[c.name]]
    return answers


def test_a_person_is_asked_and_the_file_is_what_was_said(tmp_path: Path) -> None:
    """What is not acceptable is said and asked again."""
    answers = [
        *interview("mild_disc_degeneration"),
        "knees", "low_back", "12", "5", "", "after_sitting morning", "",
        "", "80", "5", "50", "C1",
        "25", "9", "none", "rounded", "light", "less_pain less_pain", "less_pain relax",
    ]  # fmt: skip
    file = tmp_path / "p-7.yaml"
    status, output = spinemat("person", "new", file, answer="\n".join(answers) + "\n")
    assert status == 0, output
    for wrong in ("Anna B", "17", "L9", "knees", "12", "less_pain"):
        assert "Error: " in output and wrong in output
    assert "p-7: female, 45 years" in output and "low back (5 of 10) points to L3–S1" in output
    record = load_person(file)
    assert record.measures.age == 45.0 and record.measures.stature == 1.78
    assert [(a.name, a.levels) for a in record.conditions] == [
        ("mild_disc_degeneration", ("L4", "L5"))
    ]
    assert record.symptoms == (Symptom("low_back", 5.0, ("after_sitting", "morning")),)
    assert record.comfort == Comfort(1.0, 0.8, 0.5, ("C1",))
    assert record.habits.sitting == 9.0 and record.goals == ("less_pain", "relax")
    before = file.read_bytes()
    status, output = spinemat("person", "new", file)
    assert status == 1 and "a file that does not exist yet" in output
    assert file.read_bytes() == before


def test_the_interview_ends_where_no_session_is_possible(tmp_path: Path) -> None:
    file = tmp_path / "p-8.yaml"
    answers = "\n".join(interview("cauda_equina", "pacemaker"))
    status, output = spinemat("person", "new", file, answer=answers)
    assert status == 1 and "nothing was written" in output
    assert "Cauda equina: no session is possible" in output and "medical help today" in output
    assert "Places of complaints" not in output and not file.exists()
    status, output = spinemat("person", "new", file, answer="p-8\n")
    assert status == 1 and not file.exists(), "broken off"


def test_an_excluded_person_is_told_why_and_is_not_forecast(tmp_path: Path) -> None:
    path = person(tmp_path, "pacemaker")
    for arguments in (
        ("person", "check", path),
        ("person", "check", path, "--override", "dr-1", "seen"),
        ("programme", "forecast", "daily_5", "--person", path),
    ):
        status, output = spinemat(*arguments)
        assert status == 1
        assert "no session is possible" in output
        assert "Pacemaker: no session is possible (usual contraindication" in output


def test_a_doubt_waits_for_a_clinician_with_a_reason(tmp_path: Path) -> None:
    path = person(tmp_path, "steroids")
    status, output = spinemat("person", "check", path)
    assert status == 1 and "a clinician must decide first" in output
    assert spinemat("programme", "forecast", "daily_5", "--person", path)[0] == 1
    override = ("--override", "dr-1", "seen the scan")
    status, output = spinemat("person", "check", path, *override)
    assert status == 0 and "overridden by dr-1: “seen the scan”" in output
    assert spinemat("programme", "forecast", "daily_5", "--person", path, *override)[0] == 0
    status, output = spinemat("person", "check", path, "--override", "Dr K", "seen")
    assert status == 1 and "override.clinician" in output


def test_a_malformed_person_is_one_line_beside_the_others(tmp_path: Path) -> None:
    bad = person(tmp_path, measures=HEALTHY["measures"] | {"mass": 790})
    status, output = spinemat("person", "check", bad, PERSONS / "desk_worker.yaml")
    assert status == 1
    assert f"{bad}: mass: 790 is not allowed; allowed: 35 to 165 kg\n" in output
    assert "desk-worker" in output


def test_neighbouring_levels_that_show_the_same_share_a_line() -> None:
    rows = [("L1", 1), ("L2", 1), ("L3", 2), ("L4", 1)]
    assert cli_person.spans(rows) == [("L1 – L2", 1), ("L3", 2), ("L4", 1)]


# ---- the record ----------------------------------------------------------------------------


def begin(store: Store, who: str, day: int, folder: Path, **more: Any) -> str:
    """A session of 10 minutes on a day, with a folder of its own."""
    name, at = f"s{day}-{who}", AT + timedelta(days=day)
    (folder / name).mkdir()
    store.begin_session(
        name, who, {"age": 45}, at=at, programme="daily_10", folder=folder / name, **more
    )
    stiffness = 11e3 - 50.0 * day
    store.add_levels(name, "before", [MeasuredLevel("L4", stiffness, 300.0, 830.0, True)], at=at)
    store.add_dose(name, [Dose("L4", 1.0, 12.0, 20.0, 10)], at=at)
    store.add_outcome(who, "pain", 6.0 - 0.1 * day, at=at, session_id=name, moment="before")
    store.end_session(name, "completed", at=at + timedelta(minutes=10))
    return name


@pytest.fixture
def record(tmp_path: Path) -> Path:
    file = tmp_path / "spinemat.db"
    with Store(file) as store:
        for who in ("p-1", "p-2", "p-3", "p-4", "p-5"):
            for day in (0, 1, 28):
                begin(store, who, day, tmp_path, group="works")
        begin(store, "p-6", 0, tmp_path, programme_version="1", allocation="sham", sham=True)
    return file


def test_list_shows_people_and_sessions_and_keeps_a_trial_blind(record: Path) -> None:
    status, output = spinemat("record", "list", "--database", record)
    assert status == 0
    lines = [line.replace("│", "").split() for line in output.splitlines()]
    assert ["p-1", "works", "3", "of", "3", "2030-01-07", "2030-02-04"] in lines
    _, output = spinemat("record", "list", "--person", "p-1", "--database", record)
    assert "daily_10" in output and "10.0" in output and "s28-p-1" in output
    _, output = spinemat("record", "list", "--person", "p-6", "--database", record)
    assert "(trial)" in output and "daily_10" not in output


def test_trends_of_a_person_and_of_a_group(record: Path, tmp_path: Path) -> None:
    file = tmp_path / "weeks.csv"
    status, output = spinemat("record", "trends", "p-1", "--database", record, "--csv", file)
    assert status == 0
    assert "since 2030-01-07: 3 completed" in output and "used on 3 of" in output
    assert "no measurable change" in output or "softer" in output
    assert "pain" in output
    weeks = pd.read_csv(file).set_index(["measure", "week"])
    assert weeks.loc[("days_used", 1), "mean"] == 2.0
    assert weeks.loc[("stiffness_L4_n_per_m", 1), "standard_error"] > 0.0
    asked = ("record", "trends", "--group", "works", "--database", record, "--csv", file)
    status, output = spinemat(*asked)
    assert status == 0 and "works: 5 people" in output and "p-1" not in output
    assert (pd.read_csv(file)["n"] >= 5).all() and "p-1" not in file.read_text()
    assert spinemat("record", "trends", "--group", "nobody", "--database", record)[0] == 1
    assert spinemat("record", "trends", "--database", record)[0] == 2


def test_outcomes_are_checked_kept_whole_and_shown_beside_days_used(record: Path) -> None:
    outcome = ("record", "outcome", "p-1", "--database", record)
    refused = (
        (("--pain", "11"), "pain: 11.0 is not allowed; allowed: 0 to 10"),
        (("--pain", "3", "--felt", "X9", "4"), "level: 'X9' is not allowed; allowed: C1, C2"),
        (("--function", " ", "4"), "the name of an activity"),
        (("--pain", "3", "--session", "s0-p-2", "--moment", "before"), "session: 's0-p-2'"),
        (("--pain", "3", "--moment", "before"), "where a session is named"),
        (("--pain", "3", "--at", "2199-01-01"), "not in the future"),
        ((), "one answer or finding at least"),
    )
    for asked, words in refused:
        status, output = spinemat(*outcome, *asked)
        assert status == 1 and words in output, (asked, output)
    said = ("--function", "climb stairs", "4", "--function", "sit", "6", "--sleep", "7",
            "--stress", "2", "--felt", "L4", "8", "--note", "L4 felt tight", "--session", "last",
            "--moment", "before")  # fmt: skip
    status, output = spinemat(*outcome, *said)
    assert status == 0 and "6 kept" in output and "before s28-p-1" in output
    with Store(record) as store:
        kept = store.session("s28-p-1")["outcomes"]
        assert sorted(row["kind"] for row in kept) == [
            "felt", "function", "function", "note", "pain", "sleep", "stress",
        ]  # fmt: skip
    status, output = spinemat("record", "trends", "p-1", "--database", record)
    assert status == 0 and "L4 felt tight" in output
    cells = [line.replace("│", " ").replace("┃", " ").split() for line in output.splitlines()]
    assert ["week", "days", "used", "pain", "function", "sleep", "stress"] in cells
    assert any(row[1:3] == ["L4", "8"] for row in cells), output
    status, output = spinemat("record", "group", "p-1", "--database", record)
    assert status == 0 and "p-1 is in no group" in output
    status, output = spinemat("record", "group", "p-9", "works", "--database", record)
    assert status == 1 and "person p-9" in output


def test_an_anonymous_export_names_nobody(record: Path, tmp_path: Path) -> None:
    export = ("record", "export", "--format", "json", "--database", record)
    status, output = spinemat(*export, tmp_path / "open")
    assert status == 0 and "It tells who the people are" in output
    assert "p-1" in (tmp_path / "open/sessions.json").read_text()
    assert spinemat(*export, tmp_path / "masked", "--anonymous")[0] == 0
    rows = json.loads((tmp_path / "masked/sessions.json").read_text())
    assert len(rows) == 16 and not any("p-1" in str(row) for row in rows)
    status, output = spinemat(*export, tmp_path / "masked")
    assert status == 1 and "a new or an empty folder" in output


def test_delete_asks_and_leaves_nothing(record: Path, tmp_path: Path) -> None:
    delete = ("record", "delete", "p-1", "--database", record)
    for person in ("p-1", "p-2"):
        assert spinemat("record", "report", person, "--database", record, cwd=tmp_path)[0] == 0
    status, output = spinemat(*delete, answer="n\n", cwd=tmp_path)
    assert status == 1 and "3 sessions, their folders and reports for good?" in output
    assert (tmp_path / "s0-p-1").exists() and (tmp_path / "reports" / "p-1").exists()
    status, output = spinemat(*delete, answer="y\n", cwd=tmp_path)
    assert status == 0 and "Deleted for good" in output
    assert [path.name for path in (tmp_path / "reports").iterdir()] == ["p-2"]
    assert not list(tmp_path.glob("s*-p-1")) and (tmp_path / "s0-p-2").exists()
    with Store(record) as store:
        assert store.sessions("p-1") == [] and len(store.sessions("p-2")) == 3
    status, output = spinemat(*delete, "--yes")
    assert status == 1 and "person p-1" in output
    status, output = spinemat("record", "delete", "p-2", "--yes", "--keep-folders",
                              "--database", record, cwd=tmp_path)  # fmt: skip
    assert status == 0 and f"Still there: {tmp_path / 's0-p-2'}" in output
    assert "Still there: reports/p-2" in output


def test_a_record_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    file = tmp_path / "none.db"
    status, output = spinemat("record", "list", "--database", file)
    assert status == 1 and str(file) in output and not file.exists()
    status, output = spinemat("record", "list", "--database", "mysql://somebody:secret@host/x")
    assert status == 1 and "postgresql://" in output and "secret" not in output


# ---- sessions ----------------------------------------------------------------------------------

ATHLETE = PERSONS / "athlete_25.yaml"
MEASURES = ("--sex", "male", "--age", "41", "--stature", "1.75", "--mass", "80")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "--person FILE, or --unscreened with measures"),
        (MEASURES, "--person FILE, or --unscreened with measures"),
        (("--unscreened", *MEASURES), "--unscreened needs --id"),
        (("--unscreened", "--id", "p1"), "--mass"),
        (("--person", ATHLETE, "--id", "p1"), "has the measures"),
        (("--person", "none.yaml"), "none.yaml"),
        (("--unscreened", *MEASURES, "--id", "p", "--override", "c", "why"), "--override needs"),
        (
            ("--unscreened", *MEASURES, "--id", "p", "--trial", "t", "1"),
            "--trial needs a --person",
        ),
    ],
)
def test_nobody_is_treated_unscreened_by_accident(
    tmp_path: Path, arguments: tuple[Any, ...], word: str
) -> None:
    status, said = spinemat("session", "run", *arguments, cwd=tmp_path)
    assert status == 2 and word in " ".join(said.split())
