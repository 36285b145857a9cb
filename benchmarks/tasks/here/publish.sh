assocformer publish --model outputs/photos --hub_model_id org/photos --dry_run
