"""nginx as a router: a script of njs reads the model of a request, and nginx passes it on.

Variables are computed before a body is read; a handler of content reads it first, and then hands the request
to a named location (nginx.org, ngx_http_js_module: js_content, r.requestText, r.internalRedirect).
"""

from __future__ import annotations

import json

from scenarios.exporters.deployment import Deployment
from scenarios.exporters.routers.weights import PARTS, whole_weights
from scenarios.exporters.yaml_text import comment_lines

CONNECTIONS = 16_384
"""Connections of a worker, two for each request that is open; nginx's own 512 are too few for a queue."""

_SCRIPT = """\
function refuse(r, status, message) {
    r.headersOut['Content-Type'] = 'application/json';
    r.return(status, JSON.stringify({error: {message: message, type: 'invalid_request_error'}}));
}

function route(r) {
    let model;
    try {
        model = JSON.parse(r.requestText).model;
    } catch (error) {
        refuse(r, 400, 'the body is no JSON object with a model');
        return;
    }
    if (typeof model !== 'string' || !Object.prototype.hasOwnProperty.call(ROUTES, model)) {
        refuse(r, 404, 'the model is not served here');
        return;
    }
    let left = Math.floor(Math.random() * PARTS);
    const servers = ROUTES[model];
    for (let k = 0; k < servers.length; k++) {
        left -= servers[k][1];
        if (left < 0) {
            r.internalRedirect('@g' + servers[k][0]);
            return;
        }
    }
}

function models(r) {
    r.headersOut['Content-Type'] = 'application/json';
    const data = Object.keys(ROUTES).map(name => ({id: name, object: 'model'}));
    r.return(200, JSON.stringify({object: 'list', data: data}));
}

export default {route, models};
"""


def nginx_script(deployment: Deployment) -> str:
    """The script: the routes, as JSON within a text that no name can leave, and what uses them."""
    routes = {r.served_name: list(whole_weights(r.shares).items()) for r in deployment.routes}
    text = json.dumps(json.dumps(routes))
    return f"const PARTS = {PARTS};\nconst ROUTES = JSON.parse({text});\n\n{_SCRIPT}"


def nginx_config(deployment: Deployment, comments: list[str]) -> str:
    """The configuration: a named location for each group. It holds no names but ours, and hosts."""
    locations = "".join(
        f"        location @g{g.number} {{ proxy_pass http://{g.host}:{g.port}; }}\n"
        for g in deployment.groups
    )
    return comment_lines(comments) + (
        "load_module /usr/lib/nginx/modules/ngx_http_js_module.so;\n"
        "pid nginx.pid;\nerror_log stderr;\nworker_processes auto;\n"
        f"worker_rlimit_nofile {4 * CONNECTIONS};\n\n"
        f"events {{\n    worker_connections {CONNECTIONS};\n}}\n\nhttp {{\n"
        "    js_import routes from routes.js;\n    access_log off;\n\n    server {\n"
        f"        listen {deployment.settings.router_port};\n"
        "        client_max_body_size 16m;\n        client_body_buffer_size 16m;\n"
        "        proxy_http_version 1.1;\n        proxy_buffering off;\n        proxy_read_timeout 3600s;\n"
        '        proxy_set_header Connection "";\n\n'
        "        location = /v1/models { js_content routes.models; }\n"
        "        location / { js_content routes.route; }\n"
        f"{locations}    }}\n}}\n"
    )
