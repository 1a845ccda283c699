"""Writes the augmentation fixtures to stdout: inputs, and the SHA-256 of what the Python Imaging Library makes of them.

    python3 bench/pil/fixtures.py > test/data/fixtures/pil.json
"""
import base64
import hashlib
import json
import math

from PIL import Image, ImageEnhance, ImageFilter, ImageOps

FILL = (125, 123, 114)


def pictures():
    """Grey and RGB, square and not: noise over waves, low contrast, saturated, constant."""
    state = 12345

    def noise():
        nonlocal state
        state = (state * 1103515245 + 12345) % 2**31
        return state >> 16

    def make(mode, w, h, value):
        bands = 3 if mode == 'RGB' else 1
        clip = lambda v: max(0, min(255, int(v)))
        data = bytes(clip(value(x, y, c)) for y in range(h) for x in range(w) for c in range(bands))
        return Image.frombytes(mode, (w, h), data)

    wave = lambda x, y, c: 128 + 90 * math.sin(x / (3 + c)) * math.cos(y / (5 - c)) + noise() % 40 - 20
    return {
        'rgb-wave': make('RGB', 32, 32, wave),
        'rgb-noise': make('RGB', 32, 32, lambda x, y, c: noise() % 256),
        'rgb-low': make('RGB', 40, 24, lambda x, y, c: 100 + noise() % (9 + c) + x / 2),
        'rgb-saturated': make('RGB', 32, 32, lambda x, y, c: 3 * wave(x, y, c) - 256),
        'rgb-constant': make('RGB', 32, 32, lambda x, y, c: 70 + 60 * c),
        'grey-wave': make('L', 28, 28, wave),
        'grey-two': make('L', 32, 32, lambda x, y, c: 40 if (x + y) % 3 else 200),
    }


def geometry(matrix):
    def apply(image, magnitude, fill):
        return image.transform(image.size, Image.AFFINE, matrix(magnitude), Image.NEAREST, fillcolor=fill)

    return apply


moves = {
    'rotate': lambda image, m, fill: image.rotate(m, Image.NEAREST, fillcolor=fill),
    'shear-x': geometry(lambda m: (1, m, 0, 0, 1, 0)),
    'shear-y': geometry(lambda m: (1, 0, 0, m, 1, 0)),
    'translate-x': geometry(lambda m: (1, 0, m, 0, 1, 0)),
    'translate-y': geometry(lambda m: (1, 0, 0, 0, 1, m)),
}
enhancers = [0, 0.1, 0.28, 0.46, 0.64, 0.82, 1.0, 1.18, 1.36, 1.54, 1.72, 1.9, 2.5]
pixels = {
    'invert': ([0], lambda image, m: ImageOps.invert(image)),
    'auto-contrast': ([0], lambda image, m: ImageOps.autocontrast(image)),
    'equalize': ([0], lambda image, m: ImageOps.equalize(image)),
    'solarize': ([0, 26, 77, 128, 154, 179, 256], lambda image, m: ImageOps.solarize(image, m)),
    'posterize': ([1, 2, 3, 4, 8], lambda image, m: ImageOps.posterize(image, m)),
    'contrast': (enhancers, lambda image, m: ImageEnhance.Contrast(image).enhance(m)),
    'color': (enhancers, lambda image, m: ImageEnhance.Color(image).enhance(m)),
    'brightness': (enhancers, lambda image, m: ImageEnhance.Brightness(image).enhance(m)),
    'sharpness': (enhancers, lambda image, m: ImageEnhance.Sharpness(image).enhance(m)),
}
levels = {
    'rotate': [3, -3, 15, -15, 30, -30, 7.5, 0],
    'shear-x': [0.03 * n for n in range(-10, 11)],
    'shear-y': [0.03 * n for n in range(-10, 11)],
    'translate-x': [*range(-10, 11), 2.5, -0.4],
    'translate-y': [*range(-10, 11), 2.5, -0.4],
}


def planes(image):
    return b''.join(band.tobytes() for band in image.split())


def digest(*parts):
    return hashlib.sha256(b''.join(parts)).hexdigest()[:24]


images = pictures()
cases = []
for name, image in images.items():
    fill = FILL if image.mode == 'RGB' else FILL[0]
    for op, (magnitudes, apply) in pixels.items():
        for m in magnitudes:
            cases.append([name, op, m, digest(planes(apply(image, m)))])
    inside = Image.new('L', image.size, 0)
    for op, apply in moves.items():
        for m in levels[op]:
            cases.append([name, op, m, digest(planes(apply(image, m, fill)), planes(apply(inside, m, 1)))])

inputs = {
    name: {
        'channels': len(image.getbands()),
        'height': image.height,
        'width': image.width,
        'planes': base64.b64encode(planes(image)).decode(),
    }
    for name, image in images.items()
}
print('{"fill": ' + json.dumps(FILL) + ',\n"inputs": ' + json.dumps(inputs) + ',\n"cases": [')
print(',\n'.join(json.dumps(c) for c in cases))
print(']}')
