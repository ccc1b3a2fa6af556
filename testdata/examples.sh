# Makes the files that the examples of the README and the man pages name, in the current folder.
digits=$(cd "$(dirname "${BASH_SOURCE[0]}")/digits" && pwd)

cp "$digits/train.npy" "$digits/train-labels.npy" "$digits/test.npy" "$digits/model.pt2" .
cp test.npy queries.npy
cp "$digits/test-labels.npy" y.npy
mkdir -p data/mnist/train data/mnist/test
cp train.npy data/mnist/train/images.npy
cp train-labels.npy data/mnist/train/labels.npy
cp test.npy data/mnist/test/images.npy
cp y.npy data/mnist/test/labels.npy
cp "$digits/../experiments/configs/digits.json" sweep.json
mkdir raw
# In MNIST's format: a header of three axes, and the bytes of the images; convert writes four axes.
{
  printf '\0\0\10\3\0\0\5\45\0\0\0\10\0\0\0\10'
  parm-data cast --scale 255 --dtype u1 train.npy | parm-data convert --to idx | tail -c +21
} > raw/images-idx3-ubyte
parm-data convert train-labels.npy -o raw/labels-idx1-ubyte
sets=$(cd "$digits/../data-sets" && pwd)
mkdir -p pictures/plain pictures/photo speech-commands/yes speech-commands/no cifar
cp "$sets"/pictures/*.png pictures/plain
cp "$sets"/pictures/*.jpg pictures/photo
cp "$sets"/clips/*.wav speech-commands/yes
cp "$sets"/clips/*.wav speech-commands/no
echo yes/short.wav > speech-commands/validation_list.txt
echo no/long.wav > speech-commands/testing_list.txt
printf '%s\n' filename,xmin,ymin,xmax,ymax plain/rgb.png,4,5,30,31 photo/full.jpg,0,9,70,40 > boxes.csv
printf '%s\n' filename,label pictures/plain/rgb.png,plain pictures/photo/full.jpg,photo > list.csv
head -c 3073 /dev/zero | tee cifar/data_batch_{1..5}.bin cifar/test_batch.bin > /dev/null
tar -czf cifar-10-binary.tar.gz cifar
parm-train base --data train.npy --labels train-labels.npy --epochs 5 --threads 1 -o base.safetensors
parm-train parity --base base.safetensors --code sum -k 2 --data train.npy --epochs 5 --threads 1 -o code
parm-infer -m base.safetensors test.npy > predictions.npy
parm-encode --code code test.npy | parm-infer -m code/parity-0.safetensors > parity.npy
parm-decode --code code --parity parity.npy --erase one --erased-out have.npy predictions.npy > /dev/null
cp predictions.npy rebuilt.npy
cp "$digits/../plots/journal.jsonl" .
cat > parm-serve.json << END
{"models": [{
  "name": "digits",
  "files": {"deployed": "base.safetensors"},
  "redundancy": {"policy": "coded", "code": {"name": "directory", "directory": "code"}},
  "placement": "pooled",
  "instances": [{"embedded": {"count": 2}}]}]}
END
cat > slow.json << END
{"models": [{
  "name": "toy",
  "inputs": [{"name": "x", "datatype": "FP32", "shape": [8]}],
  "outputs": [{"name": "y", "datatype": "FP32", "shape": [3]}],
  "placement": "pooled",
  "instances": [{"synthetic": {"count": 3, "behavior": {
    "service": {"distribution": "constant", "ms": 5},
    "slow": {"share": 0.05, "length_ms": 100, "factor": 10}}}}]}]}
END
