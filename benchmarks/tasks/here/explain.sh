assocformer explain --model outputs/photos --images new/im0000.jpg --output why
