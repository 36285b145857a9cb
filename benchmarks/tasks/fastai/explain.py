# note: the gradient at each pixel, which says where a small change would matter; it does not add up to the score
import matplotlib.pyplot as plt
from fastai.vision.all import load_learner

learner = load_learner("photos/photos.pkl")
loader = learner.dls.test_dl(["new/im0000.jpg"])
pixels = loader.one_batch()[0].as_subclass(__import__("torch").Tensor).requires_grad_()
logits = learner.model.eval()(pixels)[0]
best = int(logits.argmax())
logits[best].backward()
plt.imshow(pixels.grad.abs().amax(1)[0])
plt.title(learner.dls.vocab[best])
plt.savefig("why.png")
