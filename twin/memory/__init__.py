"""Where a GPU's memory goes, and whether the engine starts."""

from twin.memory.footprint import StartFailure as StartFailure
from twin.memory.launch import EngineVersionError as EngineVersionError
from twin.memory.launch import LoraTargetError as LoraTargetError
from twin.memory.launch import TensorParallelError as TensorParallelError
from twin.memory.memory_model import MemoryModel as MemoryModel
from twin.memory.memory_model import memory_model as memory_model
from twin.memory.plan import MemoryPlan as MemoryPlan
from twin.memory.plan import kv_cache_if_started as kv_cache_if_started
from twin.memory.plan import plan_memory as plan_memory
