"""Requests and responses as Triton's client and Google's protocol buffers write them.

    python3 testdata/serving/make.py    # needs tritonclient[all]==2.73.0

Writes each body beside this file, and cases.json with what is in them: tensors by their bytes in hex, which
are numpy's and struct's. The same seed gives the same files.
"""

import json
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import tritonclient.http as http
from tritonclient.grpc import _utils as grpc_utils
from tritonclient.grpc import InferInput, InferRequestedOutput, service_pb2

HERE = Path(__file__).parent
RANDOM = np.random.default_rng(5)
SHAPE = [2, 3]


def tensors():
    """A tensor of each type: name, datatype, the array that the client takes, its bytes."""
    made = {}
    for datatype, dtype in [
        ("INT8", "i1"), ("INT16", "i2"), ("INT32", "i4"), ("INT64", "i8"),
        ("UINT8", "u1"), ("UINT16", "u2"), ("UINT32", "u4"), ("UINT64", "u8"),
    ]:
        info = np.iinfo(dtype)
        array = RANDOM.integers(info.min, info.max, SHAPE, dtype=dtype, endpoint=True)
        array.flat[0], array.flat[1] = info.min, info.max
        made[datatype] = (array, array.astype("<" + dtype).tobytes())
    for datatype, dtype in [("FP16", "f2"), ("FP32", "f4"), ("FP64", "f8")]:
        array = RANDOM.standard_normal(SHAPE).astype(dtype)
        array.flat[0] = np.finfo(dtype).max
        made[datatype] = (array, array.astype("<" + dtype).tobytes())
    array = RANDOM.standard_normal(SHAPE).astype(ml_dtypes.bfloat16)
    # A bf16 is the upper half of an f4.
    made["BF16"] = (array, b"".join(struct.pack("<f", value)[2:] for value in array.flat))
    array = RANDOM.integers(0, 2, SHAPE).astype(bool)
    made["BOOL"] = (array, array.tobytes())
    texts = ["", "a", "é\n\"\\", "日本", "x" * 40, "\t/"]
    array = np.array([text.encode() for text in texts], dtype=object).reshape(SHAPE)
    encoded = [text.encode() for text in texts]
    made["BYTES"] = (array, b"".join(struct.pack("<I", len(text)) + text for text in encoded))
    return made


def case(name, tensors, **more):
    """What a body holds."""
    return {
        "file": name,
        "tensors": [
            {"name": tensor, "datatype": datatype, "shape": shape, "data": data.hex()}
            for tensor, datatype, shape, data in tensors
        ],
        **more,
    }


def main():
    made, cases = tensors(), []

    def write(body, description):
        (HERE / description["file"]).write_bytes(body)
        cases.append(description)

    def http_request(name, inputs, outputs, **options):
        """inputs: (name, datatype, array, bytes, binary); outputs: (name, binary, classes)."""
        asked, held = [], []
        for tensor, datatype, array, data, binary in inputs:
            asked.append(http.InferInput(tensor, list(array.shape), datatype))
            asked[-1].set_data_from_numpy(array, binary_data=binary)
            held.append((tensor, datatype, list(array.shape), data))
        wanted = [http.InferRequestedOutput(n, binary_data=b, class_count=c) for n, b, c in outputs]
        body, header = http.InferenceServerClient.generate_request_body(asked, outputs=wanted or None, **options)
        parameters = dict(options.get("parameters") or {})
        for option in ["sequence_id", "sequence_start", "sequence_end", "priority", "timeout"]:
            # The client names a sequence's begin and end only with its id.
            if option in options:
                parameters[option] = options[option]
        write(bytes(body), case(
            name, held, kind="http-request", header_length=header, id=options.get("request_id", ""),
            parameters=parameters,
            outputs=[{"name": n, "binary": b, "parameters": {"classification": c} if c else {}} for n, b, c in outputs],
            # What the client asks for if it names no outputs.
            default_binary=not outputs,
        ))

    each = [(f"in-{datatype}", datatype, array, data) for datatype, (array, data) in made.items()]
    http_request("binary.http", [tensor + (True,) for tensor in each], [], request_id="42")
    http_request(
        "json.http",
        [tensor + (False,) for tensor in each if tensor[1] not in ("FP16", "BF16")],
        [("y", False, 0), ("z", True, 3)],
        request_id="é", priority=1, timeout=2_000_000, sequence_id=7, sequence_start=True, sequence_end=False,
        parameters={"text": "t", "truth": True, "number": -3, "part": 0.25},
    )
    http_request("mixed.http", [tensor + (i % 2 == 0,) for i, tensor in enumerate(each[:5])], [("y", True, 0)])
    array = np.array([[np.nan, np.inf, -np.inf, 1e-45]], dtype="f4")
    http_request("non-finite.http", [("x", "FP32", array, array.tobytes(), False)], [])
    array = np.zeros((0, 3), dtype="f4")
    http_request("empty.http", [("x", "FP32", array, b"", True), ("y", "FP32", array, b"", False)], [])

    def grpc_tensors(raw):
        """All types raw, or those that messages have lists for."""
        return [tensor for tensor in each if raw or tensor[1] not in ("FP16", "BF16")]

    asked = []
    for name, datatype, array, _ in each:
        asked.append(InferInput(name, list(array.shape), datatype))
        asked[-1].set_data_from_numpy(array)
    parameters = {"text": "t", "truth": True, "number": -3, "part": 0.25}
    message = grpc_utils._get_inference_request(
        model_name="m", inputs=asked, model_version="3", request_id="42",
        outputs=[InferRequestedOutput("y", class_count=3)], sequence_id=7, sequence_start=True,
        sequence_end=False, priority=1, timeout=2_000_000, parameters=parameters,
    )
    held = [(name, datatype, SHAPE, data) for name, datatype, _, data in each]
    write(message.SerializeToString(deterministic=True), case(
        "raw.pb", held, kind="grpc-request", model="m", version="3", id="42",
        parameters={
            **parameters, "sequence_id": 7, "sequence_start": True, "sequence_end": False, "priority": 1,
            "timeout": 2_000_000,
        },
        outputs=[{"name": "y", "parameters": {"classification": 3}}],
    ))

    fields = {
        "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
        "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents",
        "UINT32": "uint_contents", "UINT64": "uint64_contents", "FP32": "fp32_contents",
        "FP64": "fp64_contents", "BYTES": "bytes_contents",
    }
    request, response = service_pb2.ModelInferRequest(), service_pb2.ModelInferResponse()
    for message, into in [(request, request.inputs), (response, response.outputs)]:
        message.model_name, message.model_version, message.id = "m", "3", "42"
        for name, datatype, array, _ in grpc_tensors(raw=False):
            tensor = into.add(name=name, datatype=datatype, shape=array.shape)
            getattr(tensor.contents, fields[datatype]).extend(array.flatten().tolist())
    held = [(name, datatype, SHAPE, data) for name, datatype, _, data in grpc_tensors(raw=False)]
    about = {"model": "m", "version": "3", "id": "42", "parameters": {}}
    for name, message in [("request", request), ("response", response)]:
        body = message.SerializeToString(deterministic=True)
        write(body, case(f"contents-{name}.pb", held, kind=f"grpc-{name}", outputs=[], **about))

    response = service_pb2.ModelInferResponse(model_name="m", model_version="3", id="42")
    response.parameters["late"].bool_param = True
    held = [(name, datatype, SHAPE, data) for name, datatype, _, data in each]
    for name, datatype, array, data in each:
        response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        response.raw_output_contents.append(data)
    body = response.SerializeToString(deterministic=True)
    write(body, case("raw-response.pb", held, kind="grpc-response", **{**about, "parameters": {"late": True}}))

    metadata = service_pb2.ModelMetadataResponse(name="m", versions=["1", "2"], platform="p")
    for tensors_, name in [(metadata.inputs, "x"), (metadata.outputs, "y")]:
        tensors_.add(name=name, datatype="FP32", shape=[-1, 3])
    # Field 6, which servers use for different things.
    body = metadata.SerializeToString() + b"\x32\x03abc"
    write(body, {"file": "metadata.pb", "kind": "grpc-metadata", "tensors": []})

    (HERE / "cases.json").write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")


main()
