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
torch.export.save(torch.export.export(net, (torch.zeros(3, 2),)), "program.pt2")
# Without the graph, which holds paths.
with zipfile.ZipFile("program.pt2") as archive:
    parts = [(part, archive.read(part)) for part in archive.namelist()]
with zipfile.ZipFile("program.pt2", "w") as archive:
    for part, content in parts:
        archive.writestr(zipfile.ZipInfo(part), b"" if "model" in part else content)
