"""Augments raw CIFAR-like images with the Python Imaging Library, one core, as a policy file says; prints img/s as JSON.

    python3 bench/pil/augment.py POLICY.json IMAGES.bin CHANNELS HEIGHT WIDTH MEAN STD COUNT
"""
import json
import random
import sys
import time

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

policy = json.load(open(sys.argv[1]))
channels, height, width = map(int, sys.argv[3:6])
mean, std = (np.array(list(map(float, a.split(','))), dtype=np.float32)[:, None, None] for a in sys.argv[6:8])
count = int(sys.argv[8])
raw = np.fromfile(sys.argv[2], dtype=np.uint8).reshape(-1, channels, height, width)
images = [np.ascontiguousarray(planes.transpose(1, 2, 0)) for planes in raw]
fill = tuple(int(round(v * 255)) for v in mean.ravel())


def affine(image, mask, matrix):
    size = image.size
    return (
        image.transform(size, Image.AFFINE, matrix, Image.NEAREST, fillcolor=fill),
        mask.transform(size, Image.AFFINE, matrix, Image.NEAREST, fillcolor=0),
    )


def cut(image, mask, side):
    x, y = random.randrange(width) - side // 2, random.randrange(height) - side // 2
    box = (max(0, x), max(0, y), min(width, x + side), min(height, y + side))
    image.paste(fill, box)
    mask.paste(0, box)
    return image, mask


sign = lambda v: v if random.random() < 0.5 else -v
point = lambda f: lambda image, mask, level: (f(image, level), mask)
enhance = lambda kind: point(lambda image, level: kind(image).enhance(0.18 * level + 0.1))
ops = {
    'invert': point(lambda image, level: ImageOps.invert(image)),
    'auto-contrast': point(lambda image, level: ImageOps.autocontrast(image)),
    'equalize': point(lambda image, level: ImageOps.equalize(image)),
    'solarize': point(lambda image, level: ImageOps.solarize(image, 256 - int(25.6 * level))),
    'posterize': point(lambda image, level: ImageOps.posterize(image, 4 - int(0.4 * level))),
    'contrast': enhance(ImageEnhance.Contrast),
    'color': enhance(ImageEnhance.Color),
    'brightness': enhance(ImageEnhance.Brightness),
    'sharpness': enhance(ImageEnhance.Sharpness),
    'shear-x': lambda image, mask, level: affine(image, mask, (1, sign(0.03 * level), 0, 0, 1, 0)),
    'shear-y': lambda image, mask, level: affine(image, mask, (1, 0, 0, sign(0.03 * level), 1, 0)),
    'translate-x': lambda image, mask, level: affine(image, mask, (1, 0, sign(level), 0, 1, 0)),
    'translate-y': lambda image, mask, level: affine(image, mask, (1, 0, 0, 0, 1, sign(level))),
    'cutout': lambda image, mask, level: cut(image, mask, 2 * level),
}


def rotate(image, mask, level):
    angle = sign(int(3 * level))
    return image.rotate(angle, Image.NEAREST, fillcolor=fill), mask.rotate(angle, Image.NEAREST, fillcolor=0)


ops['rotate'] = rotate
pad = policy.get('crop', {}).get('padding', 0)
flip = policy.get('flip', 0)
cutout = policy.get('cutout', {}).get('size', 0)


def augment(pixels):
    image = Image.fromarray(pixels)
    mask = Image.new('L', image.size, 1)
    for _ in range(policy.get('draw', 0)):
        entry = random.choice(policy['tuples'])
        if random.random() < entry['probability']:
            image, mask = ops[entry['op']](image, mask, entry['level'])
    if pad:
        x, y = random.randrange(2 * pad + 1) - pad, random.randrange(2 * pad + 1) - pad
        box = (x, y, x + width, y + height)
        image, mask = image.crop(box), mask.crop(box)
    if random.random() < flip:
        image, mask = ImageOps.mirror(image), ImageOps.mirror(mask)
    if cutout:
        image, mask = cut(image, mask, cutout)
    planes = (np.asarray(image).transpose(2, 0, 1) / np.float32(255) - mean) / std
    return planes * np.asarray(mask)


batch = np.empty((64, channels, height, width), dtype=np.float32)
for i in range(256):
    batch[i % 64] = augment(images[i % len(images)])
wall, cpu = time.perf_counter(), time.process_time()
for i in range(count):
    batch[i % 64] = augment(images[i % len(images)])
print(json.dumps({'wall': count / (time.perf_counter() - wall), 'cpu': count / (time.process_time() - cpu)}))
