assocformer predict --model outputs/photos --images new --output tags.csv
