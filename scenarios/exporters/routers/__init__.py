"""Configurations of programs that route requests to the engine with their adapter."""

from scenarios.exporters.routers.envoy import envoy_config as envoy_config
from scenarios.exporters.routers.nginx import nginx_config as nginx_config
from scenarios.exporters.routers.nginx import nginx_script as nginx_script
from scenarios.exporters.routers.weights import PARTS as PARTS
from scenarios.exporters.routers.weights import whole_weights as whole_weights
