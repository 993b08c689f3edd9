"""Whether an engine starts, how many adapters fit, and how sure that is."""

from twin.startup.answer import MemoryAnswer as MemoryAnswer
from twin.startup.answer import ask_memory as ask_memory
from twin.startup.question import MemoryQuestionError as MemoryQuestionError
from twin.startup.survey import SurveyedGPU as SurveyedGPU
from twin.startup.survey import survey_memory as survey_memory
from twin.startup.unmodelled import unmodelled as unmodelled
from twin.startup.without_profile import memory_without_profiles as memory_without_profiles
