"""A client of Weir: asks where a prompt would go, then has it answered, and takes every end for what it is.

    examples/python/run --addr 127.0.0.1:8080 "Why is the sky blue?"

The stream of Complete is the decision, pieces of the answer, and one last message that says whether the answer is whole.
A call that failed ends with a status whose details carry a reason; PARTIAL_OUTPUT means that what was printed is not the
whole answer, and must not be used as if it were.

Exit codes: 0 the answer is whole, 1 no answer, 3 part of an answer, 4 the idempotency key was used before.
"""

from __future__ import annotations

import argparse
import sys
import uuid
from dataclasses import dataclass, field

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from weir.v1 import completion_pb2, decision_pb2, route_pb2, router_pb2_grpc

WHOLE, NO_ANSWER, PARTIAL, DUPLICATE = 0, 1, 3, 4


@dataclass
class Failure:
    """What a status says: the code, a reason of a closed list, and what to do."""

    code: grpc.StatusCode
    reason: str = ""
    message: str = ""
    retry_after: float | None = None  # seconds, where the server says when to come again
    receipt: completion_pb2.Receipt | None = None  # the first call's, where the key was used before


@dataclass
class Answer:
    """All that one call of Complete brought."""

    text: str = ""
    decision: decision_pb2.Decision | None = None
    completed: completion_pb2.Completed | None = None
    failure: Failure | None = None
    tools: dict[int, completion_pb2.ToolCallDelta] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        done = self.completed
        return self.failure is None and done is not None and done.status == completion_pb2.COMPLETION_STATUS_COMPLETE


def failure_of(error: grpc.RpcError) -> Failure:
    """Reads the details of a status: they come in a trailer, as google.rpc.Status."""
    out = Failure(code=error.code(), message=error.details() or "")
    raw = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    if raw is None:
        return out
    details: list[any_pb2.Any] = list(status_pb2.Status.FromString(raw).details)
    for detail in details:
        info, retry, receipt = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), completion_pb2.Receipt()
        if detail.Unpack(info):
            out.reason = info.reason
        elif detail.Unpack(retry):
            out.retry_after = retry.retry_delay.ToTimedelta().total_seconds()
        elif detail.Unpack(receipt):
            out.receipt = receipt
    return out


def complete(stub: router_pb2_grpc.RouterServiceStub, request: completion_pb2.CompleteRequest, deadline: float, show=lambda text: None) -> Answer:
    """Streams one answer. The deadline, in seconds, bounds all attempts together; Weir ends them in time to say so."""
    answer = Answer()
    try:
        for event in stub.Complete(request, timeout=deadline):
            kind = event.WhichOneof("event")
            if kind == "decision":
                answer.decision = event.decision
            elif kind == "delta":
                if event.delta.WhichOneof("piece") == "tool_call":
                    piece = event.delta.tool_call
                    call = answer.tools.setdefault(piece.index, completion_pb2.ToolCallDelta(index=piece.index))
                    call.id, call.name = piece.id or call.id, piece.name or call.name
                    call.arguments_json += piece.arguments_json
                else:
                    answer.text += event.delta.text
                    show(event.delta.text)
            elif kind == "completed":
                # Comes before an error status too, with what the call cost all the same.
                answer.completed = event.completed
    except grpc.RpcError as error:
        answer.failure = failure_of(error)
    return answer


def dollars(nano: int) -> str:
    return f"${nano / 1e9:.6f}"


def say(*words: str) -> None:
    print(*words, file=sys.stderr)


def report(answer: Answer, key: str) -> int:
    """Says on standard error how it ended, and returns the exit code."""
    if done := answer.completed:
        cost = dollars(done.cost_nano_usd) if done.HasField("cost_nano_usd") else "an unknown price"
        for n, attempt in enumerate(done.attempts, 1):
            say(f"attempt {n}: {attempt.model} at {attempt.provider}: {attempt.outcome}")
        say(f"{done.usage.input_tokens}+{done.usage.output_tokens} tokens{' (estimated)' if done.usage.estimated else ''} for {cost}")
    failure = answer.failure
    if answer.whole:
        return WHOLE
    if failure is None:
        say("the stream ended without its last message: take the answer for incomplete")
        return PARTIAL if answer.text else NO_ANSWER
    say(f"{failure.code.name} {failure.reason}: {failure.message}")
    if failure.reason == "PARTIAL_OUTPUT":
        say(f"what was printed is NOT the whole answer ({answer.completed.incomplete_reason if answer.completed else 'no end came'}); ask again with a new key")
        return PARTIAL
    if failure.reason == "DUPLICATE_CALL" and failure.receipt is not None:
        state = "still running" if failure.receipt.open else failure.receipt.status
        say(f"key {key} was used by call {failure.receipt.decision_id} ({state}, {dollars(failure.receipt.booked_nano_usd)}): nothing was called or billed again")
        return DUPLICATE
    if failure.retry_after is not None:
        say(f"come again in {failure.retry_after:g} s, with a new key: {key} belongs to the call that failed")
    return NO_ANSWER


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prompt")
    parser.add_argument("--addr", default="127.0.0.1:8080")
    parser.add_argument("--model", default="", help="use this model")
    parser.add_argument("--deadline", type=float, default=60, help="seconds for the whole call")
    parser.add_argument("--key", default="", help="idempotency key (default: a new one): where no answer came at all, the same key asks again without a second call")
    args = parser.parse_args()
    key = args.key or str(uuid.uuid4())
    route = route_pb2.RouteRequest(text=args.prompt, model=args.model, max_output_tokens=500)
    with grpc.insecure_channel(args.addr) as channel:
        stub = router_pb2_grpc.RouterServiceStub(channel)
        try:
            decision = stub.Route(route, timeout=args.deadline).decision
        except grpc.RpcError as error:
            failure = failure_of(error)
            print(f"Route: {failure.code.name} {failure.reason}: {failure.message}", file=sys.stderr)
            return NO_ANSWER
        reason = decision_pb2.Reason.Name(decision.reason).removeprefix("REASON_").lower()
        print(f"Route would send it to {decision.model} ({reason}), expected quality {decision.expected_quality:.2f}", file=sys.stderr)
        request = completion_pb2.CompleteRequest(route=route, idempotency_key=key)
        answer = complete(stub, request, args.deadline, show=lambda text: print(text, end="", flush=True))
        print()
        return report(answer, key)


if __name__ == "__main__":
    sys.exit(main())
