"""A KServe v2 server over gRPC, in a process of its own, with models that behave and models that do not.

`python -m tests.models.runtimes.kserve_server PORT SHA256` prints the port once it serves. Model `tiny`
answers as the tiny model does; every other name of `MODELS` misbehaves as it says.
"""

import sys
import time
from concurrent import futures
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from tests.models.tiny import HEIGHT, WIDTH, expected

MODELS = ("tiny", "slow", "small", "float", "stale", "cut", "other_size", "other_file", "narrow", "silent")
SLOW_S = 1.0


class Server(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    def __init__(self, sha256: str) -> None:
        self.sha256 = sha256

    def ServerReady(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        return service_pb2.ServerReadyResponse(ready=True)

    def ServerMetadata(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        return service_pb2.ServerMetadataResponse(name="test", version="2.0")

    def ModelReady(self, request: Any, _context: Any) -> Any:  # noqa: N802
        return service_pb2.ModelReadyResponse(ready=request.name in MODELS)

    def ModelMetadata(self, request: Any, _context: Any) -> Any:  # noqa: N802
        tensor = service_pb2.ModelMetadataResponse.TensorMetadata
        height = HEIGHT * 2 if request.name == "other_size" else HEIGHT
        return service_pb2.ModelMetadataResponse(
            name=request.name,
            inputs=[tensor(name="frame", datatype="UINT8", shape=[-1, height, WIDTH, 1])],
            outputs=[
                tensor(name="lesion", datatype="UINT8", shape=[-1, height, WIDTH]),
                tensor(name="classes", datatype="FP32", shape=[-1, 3]),
            ],
        )

    def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.name == "silent":
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "not part of KServe v2")
        config = model_config_pb2.ModelConfig(
            name=request.name, max_batch_size=2 if request.name == "narrow" else 8
        )
        sha = "0" * 64 if request.name == "other_file" else self.sha256
        config.parameters["sonostream_sha256"].string_value = sha
        return service_pb2.ModelConfigResponse(config=config)

    def ModelInfer(self, request: Any, _context: Any) -> Any:  # noqa: N802
        name = request.model_name
        (tensor,) = request.inputs
        frames = np.frombuffer(request.raw_input_contents[0], np.uint8).reshape(tuple(tensor.shape))
        lesion, classes = expected(frames)
        if name == "slow":
            time.sleep(SLOW_S)
        elif name == "small":
            lesion = lesion[:, ::2]
        elif name == "float":
            classes = classes.astype(np.float64)
        answer = service_pb2.ModelInferResponse(model_name=name, id="1" if name == "stale" else request.id)
        for key, values, kind in (
            ("lesion", lesion, "UINT8"),
            ("classes", classes, "FP64" if name == "float" else "FP32"),
        ):
            output = answer.outputs.add()
            output.name, output.datatype = key, kind
            output.shape.extend(values.shape)
            data = np.ascontiguousarray(values).tobytes()
            answer.raw_output_contents.append(data[:-4] if name == "cut" else data)
        return answer


def main() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Server(sys.argv[2]), server)
    port = server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    server.start()
    print(port, flush=True)
    sys.stdin.read()  # until the test lets go of it
    server.stop(0)


if __name__ == "__main__":
    main()
