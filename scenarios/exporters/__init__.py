"""Plans as deployments of serving stacks: one module a target, text in and text out."""
