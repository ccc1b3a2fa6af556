#!/usr/bin/env python3
"""Makes the fixtures of the readers of data sets with real Pillow, NumPy and SciPy.

    python3 -m pip install numpy==2.4.6 pillow==13.0.0 scipy==1.17.1
    python3 testdata/data-sets/make.py            # writes pictures/ and clips/ here
    python3 testdata/data-sets/make.py --check    # exits 1 if a file would change

pictures/*.* are pictures of every kind that is read, and NAME.fits.npy beside each is what
torchvision makes of it on Pillow's image: u1 [2, 3, 24, 24], Resize(32) and CenterCrop(24), then
resize((24, 24)). pictures/refused/ holds kinds that are not read. clips/*.wav are tones in noise, of
16 bits and 16 kHz, and NAME.spectrogram.npy every tenth frequency of the spectrogram, f4 [17, 101].
"""

import io
import pathlib
import sys
import wave

import numpy as np
from PIL import Image
from scipy.signal import get_window

HERE = pathlib.Path(__file__).resolve().parent
SIDE = 24


def scene(width, height, channels):
    """Slopes, an edge and some noise, so that a pixel out of place shows."""
    rng = np.random.default_rng([width, height, channels])
    y, x = np.mgrid[:height, :width] / max(width, height)
    planes = [200 * x + 30 * y, 40 + 180 * y, 255 * (x > y / 2), 255 * (y > 0.4)]
    smooth = np.stack(planes[:channels], -1) + rng.normal(0, 6, (height, width, channels))
    return np.clip(smooth, 0, 255).astype("u1")


def picture(mode, width, height):
    channels = {"L": 1, "1": 1, "LA": 2, "RGB": 3, "P": 3, "RGBA": 4, "CMYK": 4}[mode]
    image = Image.fromarray(scene(width, height, channels).squeeze(-1) if channels == 1 else scene(width, height, channels),
                            {1: "L", 2: "LA", 3: "RGB", 4: "CMYK" if mode == "CMYK" else "RGBA"}[channels])
    return image.quantize(16) if mode == "P" else image.convert(mode)


def saved(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def ycck(width, height):
    """A JPEG of YCCK, which Pillow reads but does not write: its planes as inks, and the note of what they are."""
    red, green, blue, black = (plane.squeeze(-1) for plane in np.split(scene(width, height, 4), 4, axis=-1))
    luma = Image.fromarray(np.dstack([red, green, blue])).convert("YCbCr")
    # Inks are stored inverted, so that 255 - x is stored as x.
    content = saved(Image.fromarray(255 - np.dstack([np.asarray(luma), black]), "CMYK"), "JPEG", quality=95)
    transform = content.index(b"Adobe") + 11
    assert content[transform] == 0
    return content[:transform] + b"\x02" + content[transform + 1 :]


def item(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def fits(content):
    image = Image.open(io.BytesIO(content)).convert("RGB")
    (width, height), short = image.size, 32
    size = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    resized = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (int(round((side - SIDE) / 2.0)) for side in size)
    cropped = resized.crop((left, top, left + SIDE, top + SIDE))
    squeezed = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.stack([np.asarray(kind).transpose(2, 0, 1) for kind in (cropped, squeezed)])


def clip(name, samples):
    """A tone that rises, in noise."""
    rng = np.random.default_rng(list(name.encode()))
    t = np.arange(samples) / 16000
    signal = 0.4 * np.sin(2 * np.pi * (300 + 1500 * t) * t) + rng.normal(0, 0.02, samples)
    return np.round(np.clip(signal, -1, 1) * 32767).astype("<i2")


def wav(samples):
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(samples.tobytes())
    return out.getvalue()


def spectrogram(samples):
    signal = np.pad(samples / 32768, 160, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(signal, 320)[::160][:101]
    magnitude = np.abs(np.fft.rfft(frames * get_window("hamming", 320))).T
    logs = np.log1p(magnitude)
    logs = np.pad(logs, ((0, 0), (0, 101 - logs.shape[1])))
    return ((logs - logs.mean()) / logs.std(ddof=1)).astype("f4")


def main():
    pictures = {
        "rgb.png": saved(picture("RGB", 45, 37), "PNG"),
        "tall.png": saved(picture("RGB", 9, 61), "PNG"),
        "high.png": saved(picture("RGB", 36, 113), "PNG"),
        "tiny.png": saved(picture("RGB", 7, 5), "PNG"),
        "grey.png": saved(picture("L", 40, 33), "PNG"),
        "bilevel.png": saved(picture("1", 51, 35), "PNG"),
        "palette.png": saved(picture("P", 35, 50), "PNG"),
        "clear.png": saved(picture("RGBA", 35, 34), "PNG"),
        "grey-clear.png": saved(picture("LA", 38, 33), "PNG"),
        "full.jpg": saved(picture("RGB", 61, 47), "JPEG", quality=90, subsampling=0),
        "half.jpg": saved(picture("RGB", 64, 49), "JPEG", quality=90, subsampling=2),
        "progressive.jpg": saved(picture("RGB", 50, 57), "JPEG", quality=90, progressive=True),
        "grey.jpg": saved(picture("L", 47, 41), "JPEG", quality=90),
    }
    pictures |= {
        "inks.jpg": saved(picture("CMYK", 44, 39), "JPEG", quality=95),
        "ycck.jpg": ycck(43, 38),
        "rgb.bmp": saved(picture("RGB", 39, 34), "BMP"),
        "palette.bmp": saved(picture("P", 37, 36), "BMP"),
        "palette.gif": saved(picture("P", 41, 37), "GIF"),
        "frames.gif": saved(
            picture("P", 40, 35), "GIF", save_all=True, append_images=[picture("P", 35, 50).resize((40, 35))]
        ),
        "rgb.ppm": saved(picture("RGB", 36, 40), "PPM"),
        "grey.pgm": saved(picture("L", 34, 38), "PPM"),
        "rgb.tif": saved(picture("RGB", 35, 37), "TIFF"),
        "packed.tif": saved(picture("RGB", 38, 35), "TIFF", compression="tiff_lzw"),
        "grey.tiff": saved(picture("L", 36, 36), "TIFF", compression="tiff_deflate"),
        "inks.tif": saved(picture("CMYK", 36, 34), "TIFF"),
        "exact.webp": saved(picture("RGB", 37, 38), "WEBP", lossless=True),
        "clear.webp": saved(picture("RGBA", 38, 37), "WEBP", lossless=True, exact=True),
        "lossy.webp": saved(picture("RGB", 42, 45), "WEBP", quality=90),
    }
    # A camera's note that the picture is to be turned: not applied.
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures["turned.jpg"] = saved(picture("RGB", 53, 40), "JPEG", quality=90, subsampling=0, exif=exif)
    refused = {
        "deep.tif": saved(Image.fromarray((np.arange(400).reshape(20, 20) * 150).astype("u2")), "TIFF"),
        "deep.png": saved(Image.fromarray((np.arange(400).reshape(20, 20) * 150).astype("u2")), "PNG"),
    }
    clips = {"second": clip("second", 16000), "short": clip("short", 4001), "long": clip("long", 17000)}

    files = {f"pictures/{name}": content for name, content in pictures.items()}
    files |= {f"pictures/{name}.fits.npy": item(fits(content)) for name, content in pictures.items()}
    files |= {f"pictures/refused/{name}": content for name, content in refused.items()}
    files |= {f"clips/{name}.wav": wav(samples) for name, samples in clips.items()}
    files |= {f"clips/{name}.spectrogram.npy": item(spectrogram(samples)[::10]) for name, samples in clips.items()}

    found = {str(path.relative_to(HERE)) for part in ("pictures", "clips") for path in HERE.glob(f"{part}/**/*.*")}
    changed = {name for name, content in files.items() if name not in found or (HERE / name).read_bytes() != content}
    changed |= found - files.keys()
    if "--check" in sys.argv[1:]:
        sys.exit(f"would change: {sorted(changed)}" if changed else 0)
    for name in found - files.keys():
        (HERE / name).unlink()
    for name, content in files.items():
        (HERE / name).parent.mkdir(parents=True, exist_ok=True)
        (HERE / name).write_bytes(content)
    print(f"{len(files)} files, {sum(map(len, files.values()))} bytes, {len(changed)} changed")


main()
