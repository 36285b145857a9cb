import lightly_train

lightly_train.export_onnx(out="model.onnx", checkpoint="outputs/lightly/exported_models/exported_last.pt")
