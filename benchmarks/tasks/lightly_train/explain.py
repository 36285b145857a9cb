# note: the gradient at each pixel, which says where a small change would matter; it does not add up to the score
import lightly_train
import matplotlib.pyplot as plt

model = lightly_train.load_model("outputs/lightly/exported_models/exported_last.pt").eval()
pixels = model.preprocess_image("new/im0000.jpg")[0][None].requires_grad_()
logits = model.forward_backend(pixels)[0]
best = int(logits.argmax())
logits[best].backward()
plt.imshow(pixels.grad.abs().amax(1)[0])
plt.title(model.classes[best])
plt.savefig("why.png")
