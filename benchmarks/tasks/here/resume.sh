assocformer train --dataset photos --output outputs/resumed --epochs 2 --resume auto
