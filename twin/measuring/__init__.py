"""Measuring a live server, for a profile of it."""

from twin.measuring.folder import FolderError as FolderError
from twin.measuring.measure import measure as measure
from twin.measuring.measurements import Measurements as Measurements
from twin.measuring.outcome import Outcome as Outcome
from twin.measuring.params import MeasureParams as MeasureParams
from twin.measuring.subject import About as About
from twin.measuring.subject import Subject as Subject
from twin.measuring.subject import SubjectError as SubjectError
from twin.measuring.subject import ask_subject as ask_subject
