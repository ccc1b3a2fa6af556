"""A model of Triton's Python backend: runs the exported program or the TorchScript beside it. Needs PyTorch."""

import os

import torch
import triton_python_backend_utils as triton


# The output to answer with, of a model with several: a key or an index; none: the first.
OUTPUT = None


def evaluate(module):
    """Batch normalisation and dropout as in evaluation, also in a program that was exported in training mode."""
    for node in module.graph.nodes:
        name = str(node.target)
        if node.op != "call_function" or not name.startswith("aten."):
            continue
        if name.startswith(("aten.batch_norm", "aten.instance_norm")) and node.args[3] is not None:
            node.update_arg(5, False)
        elif "dropout" in name and len(node.args) > 2:
            node.update_arg(2, False)
        elif name.startswith("aten.scaled_dot_product_attention") and len(node.args) > 4:
            node.update_arg(4, 0.0)
    module.recompile()
    return module


def choose(outputs):
    """The output to answer with."""
    if isinstance(outputs, torch.Tensor):
        return outputs
    if hasattr(outputs, "keys"):
        named = {str(key): outputs[key] for key in outputs.keys()}
    else:
        named = {str(at): output for at, output in enumerate(outputs)}
    if OUTPUT is not None:
        return named[OUTPUT]
    return next(output for output in named.values() if isinstance(output, torch.Tensor))


class TritonPythonModel:
    def initialize(self, args):
        device = f"cuda:{args['model_instance_device_id']}" if args["model_instance_kind"] == "GPU" else "cpu"
        folder = os.path.join(args["model_repository"], args["model_version"])
        self.device = torch.device(device)
        program = os.path.join(folder, "model.pt2")
        if os.path.exists(program):
            self.model = evaluate(torch.export.load(program).module()).to(self.device)
        else:
            self.model = torch.jit.load(os.path.join(folder, "model.pt"), map_location=self.device)

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        queries = triton.get_input_tensor_by_name(request, "INPUT__0").as_numpy()
        try:
            with torch.inference_mode():
                outputs = choose(self.model(torch.from_numpy(queries.copy()).to(self.device))).cpu().numpy()
        except RuntimeError as error:
            return triton.InferenceResponse(error=triton.TritonError(str(error)))
        return triton.InferenceResponse([triton.Tensor("OUTPUT__0", outputs)])
