"""A model of Triton's Python backend: runs the exported program or the TorchScript beside it. Needs PyTorch."""

import os

import torch
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        device = f"cuda:{args['model_instance_device_id']}" if args["model_instance_kind"] == "GPU" else "cpu"
        folder = os.path.join(args["model_repository"], args["model_version"])
        self.device = torch.device(device)
        program = os.path.join(folder, "model.pt2")
        if os.path.exists(program):
            self.model = torch.export.load(program).module().to(self.device)
        else:
            self.model = torch.jit.load(os.path.join(folder, "model.pt"), map_location=self.device)

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        queries = triton.get_input_tensor_by_name(request, "INPUT__0").as_numpy()
        try:
            with torch.inference_mode():
                outputs = self.model(torch.from_numpy(queries.copy()).to(self.device)).cpu().numpy()
        except RuntimeError as error:
            return triton.InferenceResponse(error=triton.TritonError(str(error)))
        return triton.InferenceResponse([triton.Tensor("OUTPUT__0", outputs)])
