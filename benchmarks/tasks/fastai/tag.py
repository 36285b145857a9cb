import csv

from fastai.vision.all import get_image_files, load_learner

learner = load_learner("photos/photos.pkl")
paths = get_image_files("new")
scores = learner.get_preds(dl=learner.dls.test_dl(paths))[0]
with open("tags.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["file_name", "labels"])
    for path, row in zip(paths, scores, strict=True):
        writer.writerow([path, "|".join(learner.dls.vocab[i] for i in (row >= 0.5).nonzero()[:, 0].tolist())])
