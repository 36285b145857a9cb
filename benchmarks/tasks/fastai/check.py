# note: unreadable files only
from fastai.vision.all import get_image_files, verify_images

print(verify_images(get_image_files("photos")))
