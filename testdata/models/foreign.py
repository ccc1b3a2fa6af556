#!/usr/bin/env python3
"""Makes files of PyTorch and NumPy that are no model of a kind that the tools load (PyTorch 2.11)."""
import os
import zipfile

import numpy as np
import torch

os.makedirs(os.path.join(os.path.dirname(os.path.abspath(__file__)), "foreign"), exist_ok=True)
os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "foreign"))
net = torch.nn.Linear(2, 1)
with torch.no_grad():
    net.weight.fill_(1)
    net.bias.zero_()
torch.save(net.state_dict(), "state.pth")
torch.save(net.state_dict(), "old.pth", _use_new_zipfile_serialization=False)
torch.save(dict(net.state_dict()), "dict.pth")
torch.save({"epoch": 1, "state_dict": net.state_dict()}, "lightning.ckpt")
torch.save({"epoch": 1, "model": net.state_dict()}, "inner.pth")
torch.save(net, "module.pth")
torch.save(net.weight.detach(), "tensor.pt")
torch.save([1, 2], "list.pt")
np.savez("arrays.npz", weight=np.zeros((1, 2), "f4"))
# What AOTInductor compiled, and what torch.export.save wrote up to PyTorch 2.7: their members, empty.
for name, member in [("compiled.pt2", "compiled/data/aotinductor/model/model.so"),
                     ("old.pt2", "serialized_exported_program.json")]:
    with zipfile.ZipFile(name, "w") as archive:
        archive.writestr(zipfile.ZipInfo(member), b"")
