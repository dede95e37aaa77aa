"""Random allocation for trials: permuted blocks, repeatable from a seed.

People are taken in one after the other and fall into blocks; within a block every arm occurs
equally often, in random order, so that the arms never drift apart (Matts and Lachin 1988,
Controlled Clinical Trials 9: 327-344). The sizes of the blocks vary at random: who knows the arms
so far still cannot tell the next one (ICH E9, section 2.3.2).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from spinemat.errors import InvalidInput

ARMS = ("active", "sham")
BLOCKS = (2, 3)  # times that each arm occurs in a block: blocks of 4 or 6 (engineering choice)
MOST = 100_000  # people in a trial


def allocate(
    seed: int, number: int, arms: Sequence[str] = ARMS, blocks: Sequence[int] = BLOCKS
) -> str:
    """Return the arm of a person.

    The same on every machine and for every version of Python: only `random()` is drawn from, whose
    sequence Python guarantees for a seed.

    Args:
        seed: of the trial; whoever knows it knows all arms, so it stays sealed.
        number: of the person in the order in which they were taken in, from 0.
        arms: names; a name that occurs twice gets twice as many people.
        blocks: how often each arm may occur in a block; one of them is drawn for each block.

    Raises:
        InvalidInput: an argument is not acceptable.
    """
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < MOST:
        raise InvalidInput("number", number, f"an integer from 0 to {MOST - 1}")
    if len(arms) < 2:
        raise InvalidInput("arms", list(arms), "two or more")
    if not blocks or any(not 1 <= times <= 100 for times in blocks):
        raise InvalidInput("blocks", list(blocks), "one or more, each 1 to 100")
    draw = random.Random(seed).random
    while True:
        block = list(arms) * blocks[int(draw() * len(blocks))]
        for i in range(len(block) - 1, 0, -1):  # Fisher and Yates
            j = int(draw() * (i + 1))
            block[i], block[j] = block[j], block[i]
        if number < len(block):
            return block[number]
        number -= len(block)
