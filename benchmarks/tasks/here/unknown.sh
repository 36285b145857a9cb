assocformer train --dataset partial --output outputs/partial --epochs 1
