"""NVIDIA's Triton Inference Server with the tiny model, by nvidia-pytriton, in an interpreter that has it.

`python triton_server.py GRPC_PORT HTTP_PORT` prints READY once it serves.
"""

import sys

import numpy as np
from pytriton.decorators import batch  # type: ignore[import-not-found]
from pytriton.model_config import ModelConfig, Tensor  # type: ignore[import-not-found]
from pytriton.triton import Triton, TritonConfig  # type: ignore[import-not-found]

HEIGHT, WIDTH = 24, 16


@batch  # type: ignore[untyped-decorator]
def tiny(frame):  # type: ignore[no-untyped-def]
    brightest = frame.max(axis=(1, 2, 3)).astype(np.float32) / 256
    classes = np.stack([brightest * 0.75, brightest * 0.25, 1 - brightest], axis=1)
    return {"lesion": 255 - frame[..., 0], "classes": classes}


config = TritonConfig(grpc_port=int(sys.argv[1]), http_port=int(sys.argv[2]), allow_metrics=False)
with Triton(config=config) as triton:
    triton.bind(
        model_name="tiny",
        infer_func=tiny,
        inputs=[Tensor(name="frame", dtype=np.uint8, shape=(HEIGHT, WIDTH, 1))],
        outputs=[
            Tensor(name="lesion", dtype=np.uint8, shape=(HEIGHT, WIDTH)),
            Tensor(name="classes", dtype=np.float32, shape=(3,)),
        ],
        config=ModelConfig(max_batch_size=4),
    )
    triton.run()
    print("READY", flush=True)
    sys.stdin.read()
