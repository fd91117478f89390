"""Providers that are known to speak the OpenAI-compatible protocol: where they are and what they offer.

Sources: each provider's own API documentation. Models come and go: the names are a start, any other may be typed in.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """key: a name for the provider. context in tokens of the chat models; embedding_models with their dimensions."""

    key: str
    title: str
    base_url: str
    chat_models: tuple[str, ...]
    embedding_models: tuple[tuple[str, int], ...] = ()
    context: int = 128_000
    needs_key: bool = True
    keys_url: str = ""  # where a key is made


PRESETS: tuple[Preset, ...] = (
    Preset(
        "openai",
        "OpenAI",
        "https://api.openai.com/v1",
        ("gpt-4.1-mini", "gpt-4.1", "gpt-4o-mini", "gpt-4o"),
        (("text-embedding-3-small", 1536), ("text-embedding-3-large", 3072)),
        keys_url="https://platform.openai.com/api-keys",
    ),
    Preset(
        "deepseek",
        "DeepSeek",
        "https://api.deepseek.com/v1",
        ("deepseek-chat", "deepseek-reasoner"),
        keys_url="https://platform.deepseek.com/api_keys",
    ),
    Preset(
        "dashscope",
        "通义千问 DashScope",
        "https://dashscope.aliyuncs.com/compatible-mode/v1",
        ("qwen-plus", "qwen-flash", "qwen-max"),
        (("text-embedding-v4", 1024), ("text-embedding-v3", 1024)),
        keys_url="https://bailian.console.aliyun.com/?tab=model#/api-key",
    ),
    Preset(
        "zhipu",
        "智谱 GLM",
        "https://open.bigmodel.cn/api/paas/v4",
        ("glm-4.6", "glm-4.5-air", "glm-4-flash"),
        (("embedding-3", 2048),),
        keys_url="https://open.bigmodel.cn/usercenter/apikeys",
    ),
    Preset(
        "moonshot",
        "Kimi Moonshot",
        "https://api.moonshot.cn/v1",
        ("kimi-k2.5", "kimi-k2-turbo-preview", "moonshot-v1-32k"),
        context=32_000,
        keys_url="https://platform.moonshot.cn/console/api-keys",
    ),
    Preset(
        "ark",
        "豆包 Ark",
        "https://ark.cn-beijing.volces.com/api/v3",
        ("doubao-seed-1-6-251015", "doubao-seed-1-6-flash-250828", "doubao-seed-1-8-251228"),
        keys_url="https://console.volcengine.com/ark/region:ark+cn-beijing/apiKey",
    ),
    Preset(
        "siliconflow",
        "硅基流动 SiliconFlow",
        "https://api.siliconflow.cn/v1",
        ("deepseek-ai/DeepSeek-V3.2", "Qwen/Qwen3-8B", "zai-org/GLM-4.6"),
        (("BAAI/bge-m3", 1024), ("Qwen/Qwen3-Embedding-0.6B", 1024)),
        context=32_000,
        keys_url="https://cloud.siliconflow.cn/account/ak",
    ),
    Preset(
        "ollama",
        "Ollama",
        "http://127.0.0.1:11434/v1",
        ("qwen3:8b", "llama3.2:3b", "gemma3:4b"),
        (("bge-m3", 1024), ("nomic-embed-text", 768)),
        context=4_096,  # Ollama's own default; raise it there first
        needs_key=False,
    ),
    # 8001: vLLM's own default, 8000, is this project's too.
    Preset("vllm", "vLLM", "http://127.0.0.1:8001/v1", ("Qwen/Qwen3-8B",), context=32_000, needs_key=False),
)


def preset(key: str) -> Preset | None:
    """The preset of that key."""
    return next((known for known in PRESETS if known.key == key), None)
