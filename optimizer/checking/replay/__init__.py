"""The requests of a plan, sent to its servers, and what comes back beside the twin's run of them."""
