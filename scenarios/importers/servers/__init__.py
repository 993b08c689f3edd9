"""."""

from scenarios.importers.source import Kind

KINDS: tuple[Kind, ...] = ()
