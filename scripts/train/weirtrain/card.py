"""What every bundle says of its reference models."""

from __future__ import annotations

REFERENCES = {
    "efficient": "mistralai/mixtral-8x7b-instruct",
    "high_performance": "openai/gpt-4-1106-preview",
}
