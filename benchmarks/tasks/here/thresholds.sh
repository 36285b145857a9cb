assocformer calibrate --model outputs/photos --per_label true --min_positives 1 --output outputs/calibrated
