import csv
from pathlib import Path

import lightly_train

model = lightly_train.load_model("outputs/lightly/exported_models/exported_last.pt")
with open("tags.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["file_name", "labels"])
    for path in sorted(Path("new").glob("*.jpg")):
        writer.writerow([path, "|".join(model.classes[i] for i in model.predict(path)["labels"].tolist())])
