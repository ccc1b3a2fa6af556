"""The peer of `parm-encode --code sum -k 2`: vectorised NumPy. Usage: encode.py FILE > OUTPUT"""

import sys

import numpy as np

queries = np.load(sys.argv[1])
np.save(sys.stdout.buffer, queries[0::2] + queries[1::2])
