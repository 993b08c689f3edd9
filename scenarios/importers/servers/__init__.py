"""Servers as they were started: command lines, units, Compose, Ray Serve, logs, and what they answer."""

from scenarios.importers.servers.compose import COMPOSE_FILE
from scenarios.importers.servers.model_list import MODEL_LIST
from scenarios.importers.servers.ray_serve_file import RAY_SERVE_FILE
from scenarios.importers.servers.server_log import SERVER_LOG
from scenarios.importers.servers.shell_script import SHELL_SCRIPT
from scenarios.importers.servers.systemd_unit import SYSTEMD_UNIT
from scenarios.importers.servers.vllm_command import CommandFacts as CommandFacts
from scenarios.importers.servers.vllm_command import command_facts as command_facts
from scenarios.importers.servers.vllm_command import server_of as server_of
from scenarios.importers.source import Kind

KINDS: tuple[Kind, ...] = (
    SERVER_LOG,
    SYSTEMD_UNIT,
    COMPOSE_FILE,
    RAY_SERVE_FILE,
    MODEL_LIST,
    SHELL_SCRIPT,
)
