"""What two processes must agree on; `test_processes.py` starts them."""

from copy import deepcopy

import torch
from accelerate import Accelerator
from timm.utils import ModelEmaV3
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader

from assocformer_hf import AssocFormerConfig, AssocFormerForMultiLabel
from assocformer_hf.data.images.dataset import MultiLabelCollator, MultiLabelImages
from assocformer_hf.data.images.transforms import create_image_processor, evaluation_transform
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.evaluation.evaluator import evaluate
from assocformer_hf.model.presets import BACKBONE_PRESETS
from assocformer_hf.training.step import WholeTensors

accelerator = Accelerator(cpu=True)
assert accelerator.num_processes == 2
torch.manual_seed(0)
config = AssocFormerConfig(backbone_config=BACKBONE_PRESETS["tiny-cvt"](64), num_labels=20)
model = AssocFormerForMultiLabel(config)

# Every image once, whatever the number of images and the size of the batches.
for count, batch_size in ((37, 4), (23, 8), (3, 2), (9, 3)):
    images = MultiLabelImages(load_scenes("validation", size=count), evaluation_transform(create_image_processor(64)))
    loader = DataLoader(images, batch_size, collate_fn=MultiLabelCollator(20, with_index=True))
    found = evaluate({"model": model}, accelerator.prepare(loader), accelerator)["model"]
    assert sorted(found.indices) == list(range(count)), (count, batch_size, found.indices)
    expected = model(torch.stack([images[i]["pixel_values"] for i in found.indices])).logits.sigmoid()
    torch.testing.assert_close(torch.from_numpy(found.scores), expected.detach(), rtol=0, atol=1e-6)

# The average of weights that are spread over the processes is that of whole ones.
spread, average, expected = deepcopy(model), ModelEmaV3(model, decay=0.5), ModelEmaV3(model, decay=0.5)
fully_shard(spread, mesh=torch.distributed.init_device_mesh("cpu", (2,)))
with torch.no_grad():
    for whole, part in zip(model.parameters(), spread.parameters(), strict=True):
        whole.mul_(3)
        part.mul_(3)
average.update(WholeTensors(spread))
expected.update(model)
for value, wanted in zip(average.module.state_dict().values(), expected.module.state_dict().values(), strict=True):
    torch.testing.assert_close(value, wanted)
print("agreed")
