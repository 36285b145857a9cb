assocformer train --dataset photos --output outputs/photos --epochs 1
