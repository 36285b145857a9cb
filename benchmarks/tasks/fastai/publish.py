# note: a pickle, which runs code of whoever made it where it is loaded
from fastai.vision.all import load_learner
from huggingface_hub import push_to_hub_fastai

push_to_hub_fastai(load_learner("photos/photos.pkl"), "org/photos")
