"""What is measured of servers that run."""

from twin.live.step_log import StepLine as StepLine
from twin.live.step_log import StepLog as StepLog
from twin.live.step_log import StepLogError as StepLogError
from twin.live.step_log import read_steps as read_steps
