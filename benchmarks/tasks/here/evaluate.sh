assocformer evaluate --model outputs/photos --output metrics.json
