assocformer calibrate --model outputs/photos --output outputs/calibrated
