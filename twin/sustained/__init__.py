"""The criterion *sustained*: a GPU is accepted if it keeps up with its load for ever."""

from twin.sustained.observation import FULL as FULL
from twin.sustained.observation import LABEL as LABEL
from twin.sustained.observation import SCREEN as SCREEN
from twin.sustained.observation import Effort as Effort
from twin.sustained.observation import Observation as Observation
from twin.sustained.observation import observation_of as observation_of
from twin.sustained.pooled import patience_of as patience_of
from twin.sustained.rule import Watch as Watch
from twin.sustained.rule import judge_sustained as judge_sustained
from twin.sustained.rule import unstarted as unstarted
