"""Adapters where they lie: folders of PEFT, caches of the hub, folders of vLLM's resolver."""

from scenarios.importers.adapters.adapter_config import plain_address as plain_address
from scenarios.importers.adapters.adapter_files import FILE_OF_ADAPTER
from scenarios.importers.adapters.adapter_folders import FOLDER
from scenarios.importers.adapters.adapter_folders import MARKS as MARKS
from scenarios.importers.adapters.adapter_folders import adapters_in as adapters_in
from scenarios.importers.source import Kind

KINDS: tuple[Kind, ...] = (FOLDER, FILE_OF_ADAPTER)
