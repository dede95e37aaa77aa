"""What is asked before a session, and what a yes means: exclusions, doubts, cautions, as data.

One row for each yes/no question. A row that excludes ends the intake; one of kind CLINICIAN needs
a clinician's override with a reason; a caution refuses nobody. Rows with a share below 1 lower the
force at the levels they concern, also after an override.

The exclusions are the usual ones of manual treatment of the spine. The list is no validated
instrument, and it does not replace an examination. All shares are engineering choices.
"""

from __future__ import annotations

from dataclasses import dataclass

TABLE_VERSION = 1  # goes into every log entry; raise it whenever a row changes

DEMANDS = ("optional", "required")  # what a mat may ask of screening and of confirmed plans
EXCLUDE, CLINICIAN, CAUTION = "exclude", "clinician_may_override", "caution"

USUAL = "usual contraindication to manual treatment of the spine"
FLAGS = "PMC1116959; doi 10.1186/s12891-019-2871-y"
CHOICE = "engineering choice"


@dataclass(frozen=True)
class Condition:
    """One question and what a yes to it means.

    Attributes:
        name: how records call it.
        question: for people; yes means that the condition is there.
        kind: EXCLUDE, CLINICIAN or CAUTION.
        source: where the rule comes from.
        share: greatest share of the press limit at the levels concerned, over 0 to 1 (engineering
            choice).
        placed: the answer may name levels; without levels it concerns all of them.
        above_age: years; at this age and below a yes has no effect.
        urgent: a person who says yes is told to seek medical help today (engineering choice).
    """

    name: str
    question: str
    kind: str
    source: str
    share: float = 1.0
    placed: bool = False
    above_age: float = 0.0
    urgent: bool = False

    @property
    def words(self) -> str:
        """The name as people read it."""
        return self.name.replace("_", " ")


CONDITIONS = {
    row.name: row
    for row in (
        Condition(
            "fracture", "Is a bone of your spine or ribs broken, or may it be?", EXCLUDE, USUAL
        ),
        Condition("instability", "Has a doctor called your spine unstable?", EXCLUDE, USUAL),
        Condition("tumour", "Do you have, or may you have, a tumour?", EXCLUDE, USUAL),
        Condition("infection", "Do you have a fever or an infection?", EXCLUDE, USUAL),
        Condition(
            "myelopathy",
            "Do you have clumsy hands, unsteady legs or a disease of the spinal cord?",
            EXCLUDE,
            USUAL,
            urgent=True,
        ),
        Condition(
            "cauda_equina",
            "Is it numb between your legs, or have you lost control of bladder or bowel?",
            EXCLUDE,
            USUAL,
            urgent=True,
        ),
        Condition(
            "progressive_deficit",
            "Is weakness or numbness in an arm or a leg getting worse?",
            EXCLUDE,
            USUAL,
            urgent=True,
        ),
        Condition(
            "severe_osteoporosis",
            "Do you have severe osteoporosis, or osteoporosis and a broken bone from it?",
            EXCLUDE,
            USUAL,
        ),
        Condition(
            "acute_inflammatory_arthritis",
            "Do you have an inflamed joint or spine now, for example rheumatoid arthritis?",
            EXCLUDE,
            USUAL,
        ),
        Condition(
            "vertebrobasilar_insufficiency",
            "Does moving your neck make you dizzy, faint or see double?",
            EXCLUDE,
            USUAL,
        ),
        Condition("aneurysm", "Do you have an aneurysm?", EXCLUDE, USUAL),
        Condition("bleeding_disorder", "Do you have a bleeding disorder?", EXCLUDE, USUAL),
        Condition(
            "high_dose_anticoagulation",
            "Do you take blood thinners in a high dose?",
            EXCLUDE,
            USUAL,
        ),
        Condition(
            "recent_surgery",
            "Have you had surgery in the last six months?",
            EXCLUDE,
            f"{USUAL}; six months: {CHOICE}",
        ),
        Condition("pregnancy", "Are you, or may you be, pregnant?", EXCLUDE, USUAL),
        Condition("implant", "Is there an implant in your spine or trunk?", EXCLUDE, USUAL),
        Condition("pacemaker", "Do you have a pacemaker?", EXCLUDE, USUAL),
        Condition(
            "cannot_lie_on_back",
            "Are you unable to lie on your back for the time of a session?",
            EXCLUDE,
            "the person lies on the back on this mat",
        ),
        Condition(
            "cannot_press_stop",
            "Are you unable to hold and let go of the hand control?",
            EXCLUDE,
            "the person must be able to stop the mat at any time",
        ),
        Condition("mild_osteoporosis", "Do you have mild osteoporosis?", CLINICIAN, FLAGS, 0.5),
        Condition("steroids", "Have you taken steroids for months?", CLINICIAN, FLAGS, 0.6),
        Condition(
            "spondylolisthesis",
            "Has a vertebra slipped forward?",
            CLINICIAN,
            FLAGS,
            0.4,
            placed=True,
        ),
        Condition("hypermobility", "Are your joints hypermobile?", CLINICIAN, FLAGS, 0.6),
        Condition(
            "first_episode",
            "Is this the first time that you have such pain?",
            CLINICIAN,
            FLAGS,
            0.7,
            above_age=55.0,
        ),
        Condition(
            "other_warning",
            "Is there another illness of spine, bones, nerves or vessels, pain that never eases,"
            " or loss of weight without a reason?",
            CLINICIAN,
            f"{CHOICE}: a closed list must not let pass what it does not name",
            0.5,
        ),
        Condition(
            "mild_disc_degeneration",
            "Has an image shown mild wear of a disc?",
            CAUTION,
            CHOICE,
            0.7,
            placed=True,
        ),
        Condition(
            "joint_wear",
            "Has an image shown wear of the small joints of the spine?",
            CAUTION,
            CHOICE,
            0.7,
            placed=True,
        ),
        Condition(
            "low_dose_anticoagulation",
            "Do you take blood thinners in a low dose?",
            CAUTION,
            CHOICE,
            0.8,
        ),
    )
}
"""Every question by name, in the order in which they are asked."""

AGE_SHARES = ((65.0, 0.85), (75.0, 0.7), (85.0, 0.5))
"""From this age, years, at most this share of the press limit, everywhere (engineering choice)."""
