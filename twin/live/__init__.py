"""Live servers: requests sent to them, and what came back."""

try:
    import aiohttp  # noqa: F401
except ImportError as error:
    from scenarios import LorapackError

    class MissingExtraError(LorapackError, ImportError):
        """The package that speaks to servers is not installed."""

    raise MissingExtraError("speaking to live servers needs aiohttp: pip install 'lorapack[live]'") from error

from scenarios.errors import InputError as InputError
from twin.live.answers import Answers as Answers
from twin.live.asking import ServerAnswers as ServerAnswers
from twin.live.asking import ServerError as ServerError
from twin.live.asking import ask_servers as ask_servers
from twin.live.client import KEY_VARIABLE as KEY_VARIABLE
from twin.live.client import Timeouts as Timeouts
from twin.live.client import checked_url as checked_url
from twin.live.failures import Failure as Failure
from twin.live.playing import Drive as Drive
from twin.live.playing import Limits as Limits
from twin.live.playing import play as play
from twin.live.step_log import StepLine as StepLine
from twin.live.step_log import StepLog as StepLog
from twin.live.step_log import StepLogError as StepLogError
from twin.live.step_log import read_steps as read_steps
