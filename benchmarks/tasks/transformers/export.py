import numpy as np
import onnxruntime
import torch
from transformers import AutoModelForImageClassification

model = AutoModelForImageClassification.from_pretrained("outputs/transformers/model").eval()
inputs = torch.rand(2, 3, 224, 224)


class Logits(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        return self.model(pixel_values).logits


batch = {"pixel_values": {0: torch.export.Dim("batch")}}
torch.onnx.export(Logits(), (inputs,), "model.onnx", dynamo=True, dynamic_shapes=batch, input_names=["pixel_values"])
session = onnxruntime.InferenceSession("model.onnx")
found = session.run(None, {"pixel_values": inputs.numpy()})[0]
print("differs by", np.abs(found - model(inputs).logits.detach().numpy()).max())
