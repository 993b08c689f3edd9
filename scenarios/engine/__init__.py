"""The serving engine: its arguments, in vLLM's own names, and what placers choose among them."""

from scenarios.engine.config import DEFAULT_SLOTS as DEFAULT_SLOTS
from scenarios.engine.config import MAX_SLOTS as MAX_SLOTS
from scenarios.engine.config import EngineConfig as EngineConfig
from scenarios.engine.config import EngineOption as EngineOption
from scenarios.engine.config import Regime as Regime
from scenarios.engine.further_arguments import FurtherArguments as FurtherArguments
from scenarios.engine.ranks import MAX_LORA_RANKS as MAX_LORA_RANKS
from scenarios.engine.ranks import MaxLoraRank as MaxLoraRank
from scenarios.engine.ranks import Rank as Rank
from scenarios.engine.ranks import RankOrBase as RankOrBase
from scenarios.engine.ranks import padded_rank as padded_rank
from scenarios.engine.speculation import Speculation as Speculation
from scenarios.engine.speculation import SpeculativeConfig as SpeculativeConfig
