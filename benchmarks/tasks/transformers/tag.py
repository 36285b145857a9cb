import csv
from pathlib import Path

from transformers import pipeline

tagger = pipeline("image-classification", model="outputs/transformers/model", function_to_apply="sigmoid", top_k=1000)
with open("tags.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["file_name", "labels"])
    for path in sorted(map(str, Path("new").glob("*.jpg"))):
        writer.writerow([path, "|".join(tag["label"] for tag in tagger(path) if tag["score"] >= 0.5)])
