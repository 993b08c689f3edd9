"""Flags of vLLM's server that a scenario does not have, and what becomes of them."""

from __future__ import annotations

from scenarios.importers.servers.engine_values import ARGUMENTS

SILENT = frozenset(
    {
        *("allow_credentials", "allowed_headers", "allowed_local_media_path", "allowed_media_domains"),
        *("allowed_methods", "allowed_origins", "api_key", "api_server_count", "chat_template"),
        *(
            "chat_template_content_format",
            "code_revision",
            "collect_detailed_traces",
            "config",
            "config_format",
        ),
        *("data_parallel_address", "data_parallel_backend", "data_parallel_rank", "data_parallel_rpc_port"),
        *("data_parallel_size_local", "data_parallel_start_rank", "default_chat_template_kwargs", "device"),
        *("disable_access_log_for_endpoints", "disable_fastapi_docs", "disable_frontend_multiprocessing"),
        *("disable_log_requests", "disable_log_stats", "disable_uvicorn_access_log", "download_dir"),
        *(
            "enable_auto_tool_choice",
            "enable_force_include_usage",
            "enable_log_outputs",
            "enable_log_requests",
        ),
        *("enable_logging_iteration_details", "enable_offline_docs", "enable_prompt_tokens_details"),
        *("enable_request_id_headers", "enable_server_load_tracking", "enable_ssl_refresh"),
        *("exclude_tools_when_tool_choice_none", "generation_config", "guided_decoding_backend"),
        *("h11_max_header_count", "h11_max_incomplete_event_size", "headless", "hf_config_path"),
        *("hf_overrides", "hf_token", "host", "ignore_patterns", "load_format", "log_config_file"),
        *(
            "log_error_stack",
            "log_level",
            "logits_processors",
            "logprobs_mode",
            "lora_modules",
            "master_addr",
        ),
        *("master_port", "max_log_len", "max_logprobs", "middleware", "mm_processor_kwargs", "model"),
        *("model_loader_extra_config", "nnodes", "node_rank", "otlp_traces_endpoint"),
        *("override_generation_config", "port", "reasoning_parser", "reasoning_parser_plugin"),
        *("response_role", "return_tokens_as_token_ids", "revision", "root_path", "seed"),
        *("served_model_name", "show_hidden_metrics_for_version", "shutdown_timeout"),
        *("skip_tokenizer_init", "ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_ciphers"),
        *("ssl_keyfile", "structured_outputs_config", "tokenizer", "tokenizer_mode", "tokenizer_revision"),
        *("tool_call_parser", "tool_parser_plugin", "tool_server", "trust_remote_code"),
        *("trust_request_chat_template", "uds", "use_tqdm_on_load", "uvicorn_log_level"),
    }
)
"""Flags by which no engine plans its memory or its steps, and that are not told: addresses, keys, logs,
chats (FrontendArgs of vllm/entrypoints/launchers/cli_args.py, EngineArgs of vllm/engine/arg_utils.py, 0.32.0,
and vllm/entrypoints/openai/cli_args.py of 0.8.5)."""

WITHOUT_VALUE = frozenset(
    {
        *("allow_credentials", "disable_fastapi_docs", "disable_frontend_multiprocessing"),
        *("disable_log_requests", "disable_log_stats", "disable_uvicorn_access_log"),
        *("enable_auto_tool_choice", "enable_force_include_usage", "enable_log_outputs"),
        *("enable_log_requests", "enable_logging_iteration_details", "enable_offline_docs"),
        *("enable_prompt_tokens_details", "enable_request_id_headers", "enable_server_load_tracking"),
        *("enable_ssl_refresh", "exclude_tools_when_tool_choice_none", "headless", "log_error_stack"),
        *("return_tokens_as_token_ids", "skip_tokenizer_init", "trust_remote_code"),
        *("trust_request_chat_template", "use_tqdm_on_load"),
    }
)
"""Those of them that are switches."""

SINGLE = (SILENT - WITHOUT_VALUE) | ARGUMENTS
"""Flags that take one value."""
