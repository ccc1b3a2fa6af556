//! The subcommands of `parm-data` that read data sets.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use crate::value::{ValueError, expected};

/// `parm-data idx`
#[derive(Args, Clone, Debug)]
pub struct Idx {
    /// The images: u1 [N, H, W]
    #[arg(value_name = "IMAGES")]
    pub images: PathBuf,

    /// The labels: [N], integers of any type, which is kept
    #[arg(value_name = "LABELS")]
    pub labels: PathBuf,

    /// The directory to write to; it is created if necessary
    #[arg(short, long, value_name = "DIR", help_heading = "Streams")]
    pub output: PathBuf,

    #[command(flatten)]
    pub pixels: PixelOptions,
}

/// `parm-data cifar`
#[derive(Args, Clone, Debug)]
pub struct Cifar {
    /// The set: a directory with its .bin files, or the published .tar.gz
    #[arg(value_name = "SET")]
    pub set: PathBuf,

    /// The directory to write to; it is created if necessary
    #[arg(short, long, value_name = "DIR", help_heading = "Streams")]
    pub output: PathBuf,

    /// Which part of the set to read: train or test
    #[arg(long, value_name = "PART", default_value = "train")]
    pub split: Split,

    #[command(flatten)]
    pub pixels: PixelOptions,
}

/// `parm-data images`
#[derive(Args, Clone, Debug)]
pub struct Images {
    /// The directory with a directory for each class, or a CSV file with the columns filename and label
    ///
    /// Names in the file are relative to its directory. Labels are words, whose classes are sorted, or numbers.
    #[arg(value_name = "SET")]
    pub set: PathBuf,

    /// The directory to write to; it is created if necessary
    #[arg(short, long, value_name = "DIR", help_heading = "Streams")]
    pub output: PathBuf,

    /// Treat files that are left out as an error instead of a warning
    #[arg(long)]
    pub strict: bool,

    #[command(flatten)]
    pub listing: Listing,

    /// Resize the whole picture to this size, at any aspect ratio, in place of --resize and --crop
    #[arg(long, value_name = "PIXELS|WIDTHxHEIGHT", conflicts_with_all = ["resize", "crop"])]
    pub size: Option<Size>,

    /// Make grey images, [N, 1, ...]; the default of --normalize is then unit
    ///
    /// As Pillow's convert("L") does.
    #[arg(long)]
    pub grey: bool,

    /// The size of the shorter side after resizing, in pixels
    #[arg(long, value_name = "PIXELS", default_value = "256", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub resize: u32,

    /// The size of both sides of the center crop, in pixels; at most --resize
    #[arg(long, value_name = "PIXELS", default_value = "224", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub crop: u32,

    #[command(flatten)]
    pub pixels: PixelOptions,

    #[command(flatten)]
    pub decoding: Decoding,
}

/// The size of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pixels of a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
}

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pixels = |text: &str| text.parse().ok().filter(|pixels| (1..=4096).contains(pixels));
        let (width, height) = text.split_once('x').unwrap_or((text, text));
        let size = pixels(width).zip(pixels(height)).map(|(width, height)| Self { width, height });
        size.ok_or_else(|| expected("1 to 4096 pixels, or a width and a height of as many, as 64x48"))
    }
}

/// `parm-data speech`
#[derive(Args, Clone, Debug)]
pub struct Speech {
    /// The directory of the set: a directory of WAV files for each word, and the lists of its parts
    #[arg(value_name = "SET")]
    pub set: PathBuf,

    /// The directory to write to; it is created if necessary
    #[arg(short, long, value_name = "DIR", help_heading = "Streams")]
    pub output: PathBuf,

    /// Treat files that are left out as an error instead of a warning
    #[arg(long)]
    pub strict: bool,

    #[command(flatten)]
    pub listing: Listing,

    /// Which part of the set to read
    ///
    /// 'validation' and 'test' are the clips in validation_list.txt and testing_list.txt,
    /// 'train' all others.
    #[arg(long, value_name = "PART", default_value = "train")]
    pub split: Split,

    #[command(flatten)]
    pub decoding: Decoding,
}

/// `parm-data boxes`
#[derive(Args, Clone, Debug)]
pub struct Boxes {
    /// The boxes: a CSV file, or the directory of CUB-200-2011
    ///
    /// The CSV file has a header with the columns filename, xmin, ymin, xmax and ymax, in any order.
    /// If it has the columns width and height, pictures must have that size.
    #[arg(value_name = "BOXES")]
    pub boxes: PathBuf,

    /// The directory for relative names in a CSV file [default: that of the CSV file]
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,

    /// The directory to write to; it is created if necessary
    #[arg(short, long, value_name = "DIR", help_heading = "Streams")]
    pub output: PathBuf,

    #[command(flatten)]
    pub listing: Listing,

    /// Which part of CUB-200-2011 to read: train or test [default: train]
    #[arg(long, value_name = "PART")]
    pub split: Option<Split>,

    /// The size of both sides of an image, in pixels; the whole picture is resized to it
    #[arg(long, value_name = "PIXELS", default_value = "224", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub size: u32,

    #[command(flatten)]
    pub pixels: PixelOptions,

    #[command(flatten)]
    pub decoding: Decoding,
}

/// `parm-data fetch`
#[derive(Args, Clone, Debug)]
pub struct Fetch {
    /// The set: one of those that --list prints
    #[arg(value_name = "NAME", required_unless_present = "list")]
    pub name: Option<String>,

    /// List the sets
    #[arg(long)]
    pub list: bool,

    /// The directory to create for the set; an existing one must be empty
    #[arg(short, long, value_name = "DIR", help_heading = "Streams", required_unless_present = "list")]
    pub output: Option<PathBuf>,

    /// Where downloads are kept [default: $XDG_CACHE_HOME/parm or ~/.cache/parm]
    #[arg(long, value_name = "DIR", help_heading = "Network")]
    pub cache: Option<PathBuf>,

    /// Take the set's files from this directory, without the network
    #[arg(long, value_name = "DIR", help_heading = "Network", conflicts_with_all = ["cache", "base_url", "timeout"])]
    pub from: Option<PathBuf>,

    /// Download from a mirror: the URL of the directory with the set's files
    #[arg(long, value_name = "URL", help_heading = "Network")]
    pub base_url: Option<String>,

    /// The timeout for a silent server
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "60",
        value_parser = clap::value_parser!(u64).range(1..=86_400),
        help_heading = "Network"
    )]
    pub timeout: u64,
}

/// How pixels become numbers.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Pixels")]
pub struct PixelOptions {
    /// How pixels become numbers [default: unit; for 'images' and 'boxes': imagenet]
    #[arg(long, value_name = "HOW")]
    pub normalize: Option<Normalize>,

    /// With --normalize standard, the mean to subtract from pixels in 0..1 [default: that of the data]
    ///
    /// One number, or one for each channel. Required for 'images' and 'boxes', which read their pictures only
    /// once.
    #[arg(long, value_name = "X[,X...]", value_delimiter = ',', allow_negative_numbers = true)]
    pub mean: Vec<f64>,

    /// With --normalize standard, the deviation to divide by [default: that of the data]
    ///
    /// As for --mean.
    #[arg(long, value_name = "X[,X...]", value_delimiter = ',')]
    pub std: Vec<f64>,
}

/// How pixels become numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Normalize {
    /// Bytes as they are, u1
    None,
    /// f4 from 0 to 1
    Unit,
    /// f4 with mean 0 and deviation 1
    Standard,
    /// f4 with ImageNet's mean and deviation of red, green and blue, as torchvision's models expect
    Imagenet,
}

/// In which order examples are written.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Listing {
    /// Write the examples in a random order, the same as 'parm-data shuffle --seed SEED'
    ///
    /// Without it they come class by class, or in the order of the list of boxes.
    #[arg(long, value_name = "SEED")]
    pub shuffle: Option<u64>,
}

/// How many files are decoded at a time.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Computing")]
pub struct Decoding {
    /// Threads that decode files [default: one per core]
    ///
    /// The output does not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
}

impl Decoding {
    /// Threads to decode with.
    #[must_use]
    pub fn threads(self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(cores, |threads| threads as usize)
    }
}

/// A part of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Split {
    /// For training
    Train,
    /// For validation during training
    Validation,
    /// For tests
    Test,
}
