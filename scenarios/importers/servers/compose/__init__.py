"""Files of Docker Compose, with the variables that they are given."""

from scenarios.importers.servers.compose.compose_file import COMPOSE_FILE as COMPOSE_FILE
