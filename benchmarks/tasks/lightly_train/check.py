# note: plain Python: unreadable files, the same file twice, rare labels; nothing of images that look alike
import csv
import hashlib
from collections import Counter, defaultdict

from PIL import Image

rows = list(csv.DictReader(open("photos/metadata.csv")))
seen = defaultdict(list)
for row in rows:
    path = f"photos/{row['file_name']}"
    try:
        Image.open(path).convert("RGB")
    except OSError as error:
        print(f"{path}: {error}")
        continue
    seen[hashlib.sha256(open(path, "rb").read()).digest()].append(path)
print("twice:", [group for group in seen.values() if len(group) > 1])
counts = Counter(label for row in rows for label in row["labels"].split("|"))
print("rare:", {label: count for label, count in counts.items() if count < 10})
