import numpy as np
import onnxruntime
import torch
from fastai.vision.all import load_learner

model = load_learner("photos/photos.pkl").model.eval()
inputs = torch.rand(2, 3, 224, 224)
batch = ({0: torch.export.Dim("batch")},)
torch.onnx.export(model, (inputs,), "model.onnx", dynamo=True, dynamic_shapes=batch, input_names=["pixel_values"])
session = onnxruntime.InferenceSession("model.onnx")
found = session.run(None, {"pixel_values": inputs.numpy()})[0]
print("differs by", np.abs(found - model(inputs).detach().numpy()).max())
