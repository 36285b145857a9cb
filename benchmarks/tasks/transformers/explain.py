# note: the gradient at each pixel, which says where a small change would matter; it does not add up to the score
import matplotlib.pyplot as plt
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

model = AutoModelForImageClassification.from_pretrained("outputs/transformers/model")
processor = AutoImageProcessor.from_pretrained("outputs/transformers/model")
pixels = processor(Image.open("new/im0000.jpg").convert("RGB"), return_tensors="pt")["pixel_values"].requires_grad_()
logits = model(pixels).logits[0]
best = int(logits.argmax())
logits[best].backward()
plt.imshow(pixels.grad.abs().amax(1)[0])
plt.title(model.config.id2label[best])
plt.savefig("why.png")
