assocformer export --model outputs/photos --output model.onnx
