"""The peer of `parm-data speech`: NumPy on every clip. Usage: speech.py FOLDER OUTPUT.npy"""

import pathlib
import sys
import wave

import numpy as np

WINDOW = np.hamming(321)[:320]


def spectrogram(path):
    with wave.open(str(path)) as clip:
        samples = np.frombuffer(clip.readframes(clip.getnframes()), "<i2") / 32768
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, 160, mode="reflect"), 320)[::160][:101]
    logs = np.log1p(np.abs(np.fft.rfft(frames * WINDOW))).T
    logs = np.pad(logs, ((0, 0), (0, 101 - logs.shape[1])))
    return ((logs - logs.mean()) / logs.std(ddof=1)).astype("f4")


clips = sorted(pathlib.Path(sys.argv[1]).glob("*/*.wav"))
np.save(sys.argv[2], np.stack([spectrogram(clip)[None] for clip in clips]))
