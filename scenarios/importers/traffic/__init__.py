"""Traffic as others recorded it: request logs, spans and metrics."""

from scenarios.importers.source import Kind
from scenarios.importers.traffic.log_sources import MAPPED_LOG, REQUEST_LOG
from scenarios.importers.traffic.metrics import METRICS
from scenarios.importers.traffic.range_query import RANGE_QUERY
from scenarios.importers.traffic.snapshots import combined as combined
from scenarios.importers.traffic.spans import SPANS

KINDS: tuple[Kind, ...] = (SPANS, RANGE_QUERY, METRICS, REQUEST_LOG, MAPPED_LOG)
"""In the order in which they are tried; the last takes any file of rows, so no other kind comes after it."""
