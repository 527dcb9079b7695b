"""What every bundle says of itself and of its reference models."""

from __future__ import annotations

REFERENCES = {
    "efficient": "mistralai/mixtral-8x7b-instruct",
    "high_performance": "openai/gpt-4-1106-preview",
}

DESCRIPTION = {
    "fast": "static token embeddings with small heads",
    "base": "static token embeddings, and three int8 layers of MiniLM where they cannot tell",
}

# How far a probe's raw outputs may lie from the recorded ones. The base lane is int8, whose products saturate
# without VNNI.
TOLERANCE = {
    "fast": {"default": 0.0002},
    "base": {"default": 0.08, "amd64+avx512vnni": 0.01},
}
