"""Where a GPU's memory goes, and whether the engine starts."""

from twin.memory.footprint import MemoryModel as MemoryModel
from twin.memory.footprint import StartFailure as StartFailure
from twin.memory.footprint import TensorParallelError as TensorParallelError
from twin.memory.footprint import memory_model as memory_model
from twin.memory.plan import MemoryPlan as MemoryPlan
from twin.memory.plan import plan_memory as plan_memory
