//! The public data sets that can be downloaded: their addresses and checksums.
//!
//! The checksums come from the publishers or from the dataset modules of torchvision and torchaudio; they are
//! MD5 if there is no better one.

/// A data set.
#[derive(Clone, Copy, Debug)]
pub struct Set<'a> {
    /// Its name.
    pub name: &'a str,
    /// A description, with the subcommand that reads it.
    pub about: &'a str,
    /// The size of its files, in MB.
    pub megabytes: u32,
    /// The address of the directory of its files. A mirror has the same files.
    pub base: &'a str,
    /// Its files.
    pub files: &'a [Published<'a>],
}

/// A published file.
#[derive(Clone, Copy, Debug)]
pub struct Published<'a> {
    /// Its name, below the base.
    pub name: &'a str,
    /// Its checksum.
    pub sum: Sum<'a>,
}

/// A checksum in hexadecimal, in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum<'a> {
    /// 32 digits.
    Md5(&'a str),
    /// 64 digits.
    Sha256(&'a str),
}

/// The set of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Set<'static>> {
    SETS.iter().find(|set| set.name == name)
}

const fn md5(name: &'static str, sum: &'static str) -> Published<'static> {
    Published { name, sum: Sum::Md5(sum) }
}

/// All sets.
pub const SETS: &[Set<'static>] = &[
    Set {
        name: "mnist",
        about: "handwritten digits, 70 000 of 28x28: parm-data idx",
        megabytes: 12,
        base: "https://ossci-datasets.s3.amazonaws.com/mnist",
        files: &[
            md5("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            md5("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
            md5("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
            md5("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
        ],
    },
    Set {
        name: "fashion-mnist",
        about: "clothes, 70 000 of 28x28: parm-data idx",
        megabytes: 31,
        base: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        files: &[
            md5("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            md5("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
            md5("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
            md5("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
        ],
    },
    Set {
        name: "cifar-10",
        about: "pictures of 10 classes, 60 000 of 3x32x32: parm-data cifar",
        megabytes: 170,
        base: "https://www.cs.toronto.edu/~kriz",
        files: &[md5("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")],
    },
    Set {
        name: "cifar-100",
        about: "pictures of 100 classes, 60 000 of 3x32x32: parm-data cifar",
        megabytes: 169,
        base: "https://www.cs.toronto.edu/~kriz",
        files: &[md5("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8")],
    },
    Set {
        name: "speech-commands",
        about: "version 0.01: 65 000 clips of 30 words: parm-data speech",
        megabytes: 1489,
        base: "https://storage.googleapis.com/download.tensorflow.org/data",
        files: &[Published {
            name: "speech_commands_v0.01.tar.gz",
            sum: Sum::Sha256("743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d"),
        }],
    },
    Set {
        name: "cub-200-2011",
        about: "11 788 pictures of birds, a box in each: parm-data boxes",
        megabytes: 1151,
        base: "https://data.caltech.edu/records/65de6-vp158/files",
        files: &[md5("CUB_200_2011.tgz", "97eceeb196236b17998738112f37df78")],
    },
];
