# note: a card of these lines and no more; the upload itself, `model.push_to_hub`, was not run
from huggingface_hub import ModelCard, ModelCardData
from transformers import AutoModelForImageClassification

folder = "outputs/transformers/model"
model = AutoModelForImageClassification.from_pretrained(folder)
data = ModelCardData(library_name="transformers", pipeline_tag="image-classification", tags=["multi-label"])
card = ModelCard.from_template(data, model_id="photos", model_description=f"{model.config.num_labels} labels")
card.save(f"{folder}/README.md")
