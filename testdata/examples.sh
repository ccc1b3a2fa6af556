# Makes the files that the examples of the README and the man pages name, in the current folder.
digits=$(cd "$(dirname "${BASH_SOURCE[0]}")/digits" && pwd)

cp "$digits/train.npy" "$digits/train-labels.npy" "$digits/test.npy" .
cp "$digits/test-labels.npy" y.npy
parm-train base --data train.npy --labels train-labels.npy --epochs 5 --threads 1 -o base.safetensors
parm-train parity --base base.safetensors --code sum -k 2 --data train.npy --epochs 5 --threads 1 -o code
parm-infer -m base.safetensors test.npy > predictions.npy
parm-encode --code code test.npy | parm-infer -m code/parity-0.safetensors > parity.npy
parm-decode --code code --parity parity.npy --erase one --erased-out have.npy predictions.npy > /dev/null
cp predictions.npy rebuilt.npy
