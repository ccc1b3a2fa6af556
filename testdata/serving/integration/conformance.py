"""The same questions to any server of the protocol; prints one line for each outcome.

Usage: conformance.py HTTP_ADDRESS GRPC_ADDRESS

The server has a model "toy": x, 8 floats, to y, 3 floats, element j the sum of x[j], x[j+3], ...
Two servers that print the same behave the same. What servers may word as they like (messages beyond
their kind, names and versions of the server) is not printed.
"""

import faulthandler
import queue
import sys

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.http as http

X = np.arange(16, dtype=np.float32).reshape(2, 8)


def outcome(name, ask):
    try:
        print(f"{name}: {ask()}")
    except Exception as error:  # whatever a server makes of it is an outcome
        status = getattr(error, "status", lambda: None)()
        print(f"{name}: {type(error).__name__} {status}")


def tensor(module, name="x", array=X, kind="FP32", **options):
    made = module.InferInput(name, list(array.shape), kind)
    made.set_data_from_numpy(array, **options)
    return made


def y(result):
    return np.round(result.as_numpy("y").astype(np.float64), 3).tolist()


def metadata(client):
    said = client.get_model_metadata("toy")
    if not isinstance(said, dict):
        from google.protobuf.json_format import MessageToDict

        said = MessageToDict(said, preserving_proto_field_name=True)
    tensors = [(t["name"], t["datatype"], [int(d) for d in t["shape"]]) for t in said["inputs"] + said["outputs"]]
    return said["name"], said["versions"], tensors


def common(module, client, kind):
    ask = lambda name, of: outcome(f"{kind} {name}", of)
    ask("live", client.is_server_live)
    ask("ready", client.is_server_ready)
    ask("model ready", lambda: client.is_model_ready("toy"))
    ask("metadata", lambda: metadata(client))
    ask("infer", lambda: y(client.infer("toy", [tensor(module)])))
    ask("infer version", lambda: y(client.infer("toy", [tensor(module)], model_version="1")))
    wanted = [module.InferRequestedOutput("y")]
    ask("named output", lambda: y(client.infer("toy", [tensor(module)], outputs=wanted)))
    top = [module.InferRequestedOutput("y", class_count=2)]
    ask("classes", lambda: client.infer("toy", [tensor(module)], outputs=top).as_numpy("y").tolist())
    ask("unknown model", lambda: client.infer("nix", [tensor(module)]))
    ask("unknown version", lambda: client.infer("toy", [tensor(module)], model_version="9"))
    ask("unknown model ready", lambda: client.is_model_ready("nix"))
    ask("wrong shape", lambda: client.infer("toy", [tensor(module, array=X[:, :4].copy())]))
    ask("wrong rank", lambda: client.infer("toy", [tensor(module, array=X[0])]))
    ask("wrong type", lambda: client.infer("toy", [tensor(module, array=X.astype(np.float64), kind="FP64")]))
    ask("wrong name", lambda: client.infer("toy", [tensor(module, name="z")]))
    ask("two inputs", lambda: client.infer("toy", [tensor(module), tensor(module, name="z")]))
    no = [module.InferRequestedOutput("z")]
    ask("unknown output", lambda: client.infer("toy", [tensor(module)], outputs=no))


def id_of(result):
    response = result.get_response()
    return response["id"] if isinstance(response, dict) else response.id


def main():
    # What hangs says where.
    faulthandler.dump_traceback_later(60, exit=True)
    over_http = http.InferenceServerClient(sys.argv[1])
    over_grpc = grpc.InferenceServerClient(sys.argv[2])
    for module, client, kind in [(http, over_http, "http"), (grpc, over_grpc, "grpc")]:
        common(module, client, kind)
        outcome(f"{kind} id", lambda: id_of(client.infer("toy", [tensor(module)], request_id="a-7")))
    json = lambda: tensor(http, binary_data=False)
    out = [http.InferRequestedOutput("y", binary_data=False)]
    outcome("http json", lambda: y(over_http.infer("toy", [json()], outputs=out)))
    for packing in ["gzip", "deflate"]:
        options = {"request_compression_algorithm": packing, "response_compression_algorithm": packing}
        outcome(f"http {packing}", lambda: y(over_http.infer("toy", [tensor(http)], **options)))
    answers = queue.Queue()
    over_grpc.start_stream(lambda result, error: answers.put(error is None and id_of(result)))
    for number in range(3):
        over_grpc.async_stream_infer("toy", [tensor(grpc)], request_id=str(number))
    outcome("grpc stream", lambda: sorted(answers.get(timeout=10) for _ in range(3)))
    over_grpc.stop_stream()
    over_grpc.close()
    over_http.close()


if __name__ == "__main__":
    main()
