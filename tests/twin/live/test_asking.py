"""What a live server tells of itself."""

import pytest

from tests.live_server import LiveServer
from twin.live import ServerError, ask_servers
from twin.live.asking import _of_metrics


def test_a_server_tells_models_release_and_cache():
    with LiveServer(adapters=("one", "two"), max_loras=3).serving() as server:
        (told,) = ask_servers([server.url])
        assert not server.bodies
    assert (told.base, told.adapters) == (("base",), ("one", "two"))
    assert (told.version, told.max_model_len, told.max_loras) == ("0.32.0", 2048, 3)
    assert (told.kv_cache_tokens, told.block_size) == (8192 * 16, 16)


def test_one_without_release_and_metrics_tells_less():
    with LiveServer(version=None).serving() as server:
        (told,) = ask_servers([server.url])
    assert told.version is None


def test_those_that_cannot_be_asked_are_told_together():
    with LiveServer().serving() as server, pytest.raises(ServerError) as error:
        ask_servers([server.url, "http://127.0.0.1:9", "http://127.0.0.1:10"])
    assert "127.0.0.1:9 " in str(error.value)
    assert "127.0.0.1:10 " in str(error.value)
    assert server.url not in str(error.value)


def test_the_cache_of_a_real_server():
    text = (
        'vllm:cache_config_info{_block_size_resolved="True",block_size="32",cache_dtype="auto",'
        'enable_prefix_caching="False",engine="0",gpu_memory_utilization="0.92",'
        'kv_cache_memory_bytes="1073741824",kv_cache_size_tokens="2097152",num_gpu_blocks="65536"} 1.0\n'
        'vllm:lora_requests_info{max_lora="4",running_lora_adapters="a",waiting_lora_adapters=""} 1.7e+09\n'
    )
    told = _of_metrics("http://127.0.0.1:1", text)
    assert told["kv_cache_tokens"] == 2_097_152
    assert told["enable_prefix_caching"] is False
    assert told["gpu_memory_utilization"] == 0.92
    assert told["kv_cache_memory_bytes"] == 2**30
    assert told["max_loras"] == 4


def test_metrics_of_something_else_tell_nothing():
    assert set(_of_metrics("http://127.0.0.1:1", "sglang:num_running_reqs 3\n").values()) == {None}
    assert _of_metrics("http://127.0.0.1:1", "<html>") == {}
    told = _of_metrics(
        "http://127.0.0.1:1", "sglang:max_total_num_tokens 4096\nsglang:lora_pool_slots_total 8\n"
    )
    assert (told["kv_cache_tokens"], told["max_loras"]) == (4096, 8)
