assocformer check --dataset photos
