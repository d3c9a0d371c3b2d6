"""What belongs to a run and not to the work: its seed, threads, progress, and how it goes on.

`Run` carries them, `Checkpoint` keeps the state of work that has steps, `Journal` the records of
work that has items. Whatever goes on after a kill does so through one of these two.
"""

from .checkpoint import Arrays, Checkpoint, State
from .identity import differences
from .journal import Journal
from .run import Run

__all__ = ["Arrays", "Checkpoint", "Journal", "Run", "State", "differences"]
