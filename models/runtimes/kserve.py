"""A model on a server that speaks KServe v2 over gRPC: Triton, and most others.

Several daemons share one server. A request has a deadline and is never repeated: by then a newer frame is
there. Its answer must carry its number, so that no frame gets another's.
"""

from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient import grpc  # type: ignore[import-untyped]
from tritonclient.utils import InferenceServerException  # type: ignore[import-untyped]

from models.artifact import INPUT, Artifact
from models.runtimes.base import (
    EngineFailed,
    EngineUnavailable,
    Precision,
    PredictionInvalid,
    RuntimeDescription,
    Session,
)

VERSION: str = version("tritonclient")

DEADLINE_S = 1.0
"""Longer than any answer is worth: a display greys out after a quarter of that."""
LOADING_S = 120.0
"""For the first calls: a server may build an engine then."""
SHA_PARAMETER = "sonostream_sha256"
"""Parameter of a model's configuration on the server that says which file it runs."""
_TYPES = {np.dtype(np.uint8): "UINT8", np.dtype(np.float32): "FP32"}
_CHANNEL = [
    # gRPC waits up to two minutes before it tries a lost server again; a display cannot.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_send_message_length", 2**31 - 1),
    ("grpc.max_receive_message_length", 2**31 - 1),
]


def precisions() -> list[str]:
    """Whatever the server's model has."""
    return ["auto"]


class KServeSession(Session):
    """A model on a server."""

    def __init__(
        self,
        artifact: Artifact,
        *,
        precision: Precision = "auto",
        threads: int | None = None,  # noqa: ARG002 - the server has its own; every engine takes the same
        max_batch: int = 1,
        cache_dir: Path | None = None,  # noqa: ARG002
        server: str | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """Connect to the server and hold its model to the artifact.

        :param artifact: the model the server must have; its card is what answers are checked against.
        :param precision: `auto`, or the artifact's own.
        :param threads: not used.
        :param max_batch: most frames in one call.
        :param cache_dir: not used.
        :param server: `host:port` or `host:port/model`; the card's name if left out.
        :param deadline_s: how long one call may take.
        :raises EngineUnavailable: if no server is named, it is down or not ready, or lacks the model.
        :raises EngineFailed: if the server's model is another one.
        """
        card = artifact.card
        if not server:
            raise EngineUnavailable("runtime kserve needs a server: host:port, or host:port/model")
        if precision not in ("auto", card.precision):
            raise EngineUnavailable(f"precision {precision!r}: the server runs the model in {card.precision}")
        self._address, _, name = server.removeprefix("grpc://").partition("/")
        self._model = name or card.name
        self._deadline_s = deadline_s
        self._client: grpc.InferenceServerClient | None = grpc.InferenceServerClient(
            self._address, channel_args=_CHANNEL
        )
        try:
            server_version = self._greet()
            super().__init__(
                card,
                RuntimeDescription(
                    "kserve", server_version, card.precision, f"{self._address}/{self._model}", 1
                ),
                max_batch=max_batch,
            )
            self._check_model(artifact)
        except BaseException:
            self._client.close()
            raise
        self._numbers = count(1)
        self._wanted = [grpc.InferRequestedOutput(output) for output in self._outputs]
        self._requests = [
            grpc.InferInput(INPUT, list(self._frames[:n].shape), "UINT8") for n in range(1, max_batch + 1)
        ]

    def healthy(self) -> bool:
        """Whether the server and its model are ready, asked within the deadline."""
        if self._client is None:
            return False
        try:
            return bool(
                self._client.is_server_ready(client_timeout=self._deadline_s)
                and self._client.is_model_ready(self._model, client_timeout=self._deadline_s)
            )
        except InferenceServerException:
            return False

    def warm_up(self) -> None:
        """Run every batch size once, with time for the server to load or build what it needs."""
        deadline, self._deadline_s = self._deadline_s, max(LOADING_S, self._deadline_s)
        try:
            super().warm_up()
        finally:
            self._deadline_s = deadline

    def _greet(self) -> str:
        """Ask whether the server and the model are there; its name and version."""
        assert self._client is not None
        timeout = max(5.0, self._deadline_s)
        try:
            if not self._client.is_server_ready(client_timeout=timeout):
                raise EngineUnavailable(f"the server at {self._address} is not ready; try again when it is")
            if not self._client.is_model_ready(self._model, client_timeout=timeout):
                raise EngineUnavailable(
                    f"the server at {self._address} has no model {self._model!r} that is ready; "
                    "name one with host:port/model, or see the server's log"
                )
            said = self._client.get_server_metadata(client_timeout=timeout)
        except InferenceServerException as error:
            raise EngineUnavailable(
                f"no KServe v2 server answers at {self._address}: {_words(error)}"
            ) from None
        return f"{said.name} {said.version}".strip()

    def _check_model(self, artifact: Artifact) -> None:
        assert self._client is not None
        try:
            said = self._client.get_model_metadata(self._model, client_timeout=max(5.0, self._deadline_s))
        except InferenceServerException as error:
            raise EngineFailed(
                f"{self._address} does not describe {self._model!r}: {_words(error)}"
            ) from None
        for role, tensors, buffers in (
            ("input", said.inputs, {INPUT: self._frames}),
            ("output", said.outputs, self._outputs),
        ):
            found = {tensor.name: tensor for tensor in tensors}
            for name, buffer in buffers.items():
                tensor = found.get(name)
                got = "nothing" if tensor is None else f"{tensor.datatype} {list(tensor.shape)}"
                # Servers may leave lengths open, and some leave the batch out.
                shape = [] if tensor is None else list(tensor.shape)[-(buffer.ndim - 1) :]
                fits = (
                    tensor is not None
                    and tensor.datatype == _TYPES[buffer.dtype]
                    and all(a in (-1, b) for a, b in zip(shape, buffer.shape[1:], strict=False))
                )
                if not fits:
                    raise EngineFailed(
                        f"{self._address} runs another model as {self._model!r}: its {role} {name!r} is "
                        f"{got}, expected {_TYPES[buffer.dtype]} {[-1, *buffer.shape[1:]]}"
                    )
        self._check_configuration(artifact)

    def _check_configuration(self, artifact: Artifact) -> None:
        """Compare what Triton knows beyond the protocol; other servers do not answer."""
        assert self._client is not None
        try:
            config = self._client.get_model_config(
                self._model, client_timeout=max(5.0, self._deadline_s)
            ).config
        except InferenceServerException:
            return
        if SHA_PARAMETER in config.parameters:
            sha = config.parameters[SHA_PARAMETER].string_value
            if sha != artifact.sha256:
                raise EngineFailed(
                    f"{self._address} runs another file as {self._model!r}: its SHA-256 begins with "
                    f"{sha[:12]}, that of {artifact.path} with {artifact.sha256[:12]}; export it again"
                )
        if 0 < config.max_batch_size < self.max_batch:
            raise EngineFailed(
                f"{self._address} takes at most {config.max_batch_size} frames a call for {self._model!r}, "
                f"{self.max_batch} are asked for; raise max_batch_size in its config.pbtxt"
            )

    def _run(self, n: int) -> None:
        assert self._client is not None
        request, number = self._requests[n - 1], str(next(self._numbers))
        request.set_data_from_numpy(self._frames[:n])
        try:
            answer = self._client.infer(
                self._model,
                [request],
                outputs=self._wanted,
                request_id=number,
                client_timeout=self._deadline_s,
            )
        except InferenceServerException as error:
            raise EngineFailed(f"{self._address}/{self._model}: {_words(error)}; the frame is lost") from None
        if answer.get_response().id != number:
            raise PredictionInvalid(
                f"{self._address}/{self._model} answered request {answer.get_response().id!r} when {number} "
                "was asked; the answer is not used"
            )
        for name, buffer in self._outputs.items():
            self._take(answer, name, buffer[:n])

    def _take(self, answer: Any, name: str, buffer: np.ndarray[Any, Any]) -> None:
        try:
            values = answer.as_numpy(name)
        except (ValueError, InferenceServerException) as error:  # the bytes are not the shape it names
            raise PredictionInvalid(
                f"{self._address}/{self._model} returned {name!r} damaged: {error}"
            ) from None
        if values is None or values.shape != buffer.shape or values.dtype != buffer.dtype:
            got = "nothing" if values is None else f"{values.dtype} {list(values.shape)}"
            raise PredictionInvalid(
                f"{self._address}/{self._model} returned {name!r} as {got}, expected {buffer.dtype} "
                f"{list(buffer.shape)}"
            )
        np.copyto(buffer, values)

    def _release(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _words(error: InferenceServerException) -> str:
    status = error.status() or ""
    if "DEADLINE_EXCEEDED" in status:
        return "no answer within the deadline"
    if "UNAVAILABLE" in status:
        return "the server is down or cannot be reached"
    return " ".join(str(error.message()).split())[:300]
