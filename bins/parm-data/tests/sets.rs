//! The subcommands that read and fetch data sets, as processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use parm_testkit::npy::{data, descr, f4_values, shape};
use parm_testkit::server::{Answer, answer};
use parm_testkit::{Server, Tool, tool as tools};
use tempfile::TempDir;

fn tool(arguments: &str, within: &Path) -> Tool {
    Tool::new("parm-data").args(arguments).within(within)
}

fn fixtures() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/data-sets")).unwrap()
}

/// What is in a file of the folder.
fn file(folder: &TempDir, name: &str) -> Vec<u8> {
    fs::read(folder.path().join(name)).unwrap()
}

/// A folder with a class of JPEG files and one of PNG files, out of order.
fn classes() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (class, pictures) in [("zebra", ["full.jpg", "grey.jpg"]), ("ant", ["tall.png", "clear.png"])] {
        let path = folder.path().join("set").join(class);
        fs::create_dir_all(&path).unwrap();
        for picture in pictures {
            fs::copy(fixtures().join("pictures").join(picture), path.join(picture)).unwrap();
        }
        fs::write(path.join("notes.txt"), "no picture").unwrap();
    }
    folder
}

#[test]
fn images_are_read_in_order_with_any_number_of_threads() {
    let folder = classes();
    let mut seen: Option<Vec<u8>> = None;
    for threads in ["1", "3"] {
        let call = format!("images set -o out --resize 32 --crop 24 --normalize none -v --threads {threads}");
        let outcome = tool(&call, folder.path()).run();
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let line = "parm-data: warning: left out 2 files that are no pictures, first set/ant/notes.txt\n\
                    parm-data: read 4 images of 2 classes\n";
        assert_eq!(outcome.stderr, line);
        let images = file(&folder, "out/images.npy");
        assert_eq!((shape(&images), descr(&images).as_str()), (vec![4, 3, 24, 24], "|u1"));
        assert_eq!(data(&file(&folder, "out/labels.npy")), [0, 0, 1, 1]);
        assert_eq!(file(&folder, "out/classes.json"), b"[\n  \"ant\",\n  \"zebra\"\n]\n");
        let plane = 3 * 24 * 24;
        for (row, name) in ["clear.png", "tall.png"].into_iter().enumerate() {
            let expected = fs::read(fixtures().join(format!("pictures/{name}.fits.npy"))).unwrap();
            assert_eq!(data(&images)[row * plane..][..plane], data(&expected)[..plane], "{name}");
        }
        assert_eq!(seen.get_or_insert_with(|| images.clone()), &images);
    }
}

#[test]
fn pixels_become_what_torchvision_makes_of_them() {
    let folder = classes();
    let read = |options: &str| {
        let call = format!("images -q set -o out --resize 24 --crop 20 {options}");
        assert_eq!(tool(&call, folder.path()).run().output(), b"");
        file(&folder, "out/images.npy")
    };
    let bytes = data(&read("--normalize none")).to_vec();
    let (mean, deviation) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    for (i, found) in f4_values(&read("")).into_iter().enumerate() {
        let channel = i / 400 % 3;
        let expected = (f32::from(bytes[i]) / 255.0 - mean[channel]) / deviation[channel];
        assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
    }
    let own = f4_values(&read("--normalize standard --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"));
    assert_eq!(own, f4_values(&read("--normalize imagenet")));
    let unit = f4_values(&read("--normalize unit"));
    assert!(unit.iter().zip(&bytes).all(|(&unit, &byte)| unit == f32::from(byte) / 255.0));
}

#[test]
fn a_bad_picture_is_named_and_leaves_no_output() {
    for (name, bytes, cause) in [
        ("x.png", fs::read(fixtures().join("pictures/refused/deep.png")).unwrap(), "found 16 bits a channel"),
        ("x.tif", fs::read(fixtures().join("pictures/refused/deep.tif")).unwrap(), "found 16 bits a channel"),
        (
            "x.webp",
            fs::read(fixtures().join("pictures/lossy.webp")).unwrap()[..300].to_vec(),
            "cannot decode WebP",
        ),
        ("x.jpeg", fs::read(fixtures().join("pictures/full.jpg")).unwrap()[..900].to_vec(), "truncated JPEG"),
        ("x.PNG", b"text".to_vec(), "found bytes [74, 65, 78, 74] at its beginning"),
    ] {
        let folder = classes();
        fs::write(folder.path().join("set/ant").join(name), bytes).unwrap();
        let outcome = tool("images -q set -o out", folder.path()).run();
        assert_eq!(outcome.code, 1);
        let message = format!("parm-data: set/ant/{name}: {cause}");
        assert!(outcome.stderr.starts_with(&message), "{}", outcome.stderr);
        assert_eq!(fs::read_dir(folder.path().join("out")).unwrap().count(), 0);
    }
}

#[test]
fn pictures_are_found_at_any_depth_and_what_is_left_out_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join("set").join(name);
    for (name, picture) in [
        ("cat/z.png", "rgb.png"),
        ("cat/b/a.gif", "palette.gif"),
        ("cat/b-c/a.bmp", "rgb.bmp"),
        ("cat/b/d/a.tif", "rgb.tif"),
        ("cat/b/looks.like.jpg/a.WEBP", "exact.webp"),
        ("dog/b/a.ppm", "rgb.ppm"),
        // No reason to warn: hidden, as the forks of macOS are.
        ("cat/._z.png", "rgb.png"),
        // Counted: in no class.
        ("a.png", "rgb.png"),
    ] {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::copy(fixtures().join("pictures").join(picture), at(name)).unwrap();
    }
    fs::write(at("cat/b/notes.txt"), "no picture").unwrap();
    for (to, link) in [("nowhere", "dog/dangling.png"), ("..", "dog/b/loop"), ("../../cat", "dog/b/cats")] {
        std::os::unix::fs::symlink(to, at(link)).unwrap();
    }
    let call = "images set -o out --resize 24 --crop 24 --normalize none";
    let outcome = tool(call, folder.path()).run();
    let warning = "parm-data: warning: left out 5 files that are no pictures, first set/a.png\n";
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, warning));
    // The dog's link to the cats is followed, as torchvision does; so their notes count twice.
    let labels = file(&folder, "out/labels.npy");
    assert_eq!(data(&labels), [[0; 5], [1; 5]].concat().into_iter().chain([1]).collect::<Vec<u8>>());
    let images = file(&folder, "out/images.npy");
    let names = ["rgb.png", "palette.gif", "rgb.bmp", "rgb.tif", "exact.webp", "rgb.ppm"];
    for (row, name) in names.iter().enumerate() {
        let alone = tempfile::tempdir().unwrap();
        fs::create_dir_all(alone.path().join("set/x")).unwrap();
        fs::copy(fixtures().join("pictures").join(name), alone.path().join("set/x").join(name)).unwrap();
        assert_eq!(tool(call, alone.path()).run().output(), b"");
        let plane = 3 * 24 * 24;
        assert_eq!(data(&images)[row * plane..][..plane], *data(&file(&alone, "out/images.npy")), "{name}");
    }
    // Hidden files are no reason to warn, but are counted; through the link, that of the cats a second time.
    let counted = tool(&format!("{call} -v"), folder.path()).run();
    let line = "parm-data: read 11 images of 2 classes; left out 2 hidden names (.*)\n";
    assert!(counted.stderr.ends_with(line), "{}", counted.stderr);
    let strict = tool(&format!("{call} --strict"), folder.path()).run();
    let message = "parm-data: left out 5 files that are no pictures, first set/a.png (--strict)\n";
    assert_eq!((strict.code, strict.stderr.as_str()), (1, message));
}

#[test]
fn images_of_a_list_are_those_of_the_directories() {
    let folder = classes();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write(
        "set/list.csv",
        "label,filename\nant,ant/clear.png\nant,ant/tall.png\nzebra,zebra/full.jpg\nzebra,zebra/grey.jpg\n",
    );
    write("numbers.csv", "filename,label\nset/zebra/full.jpg,300\nset/ant/tall.png,2\n");
    assert_eq!(tool("images -q set -o a --resize 24 --crop 20", folder.path()).run().output(), b"");
    assert_eq!(tool("images set/list.csv -o b --resize 24 --crop 20", folder.path()).run().output(), b"");
    for name in ["images.npy", "labels.npy", "classes.json"] {
        assert!(file(&folder, &format!("a/{name}")) == file(&folder, &format!("b/{name}")), "{name}");
    }
    let counted = tool("images numbers.csv -o c --size 20x10 --normalize none -v", folder.path()).run();
    assert_eq!((counted.code, counted.stderr.as_str()), (0, "parm-data: read 2 images of 301 classes\n"));
    assert_eq!(shape(&file(&folder, "c/images.npy")), [2, 3, 10, 20]);
    let labels = file(&folder, "c/labels.npy");
    assert_eq!((descr(&labels).as_str(), data(&labels)), ("<u2", [44, 1, 2, 0].as_slice()));
    assert!(!folder.path().join("c/classes.json").exists());
    write("empty.csv", "filename,label\n");
    for (call, code, message) in [
        ("images empty.csv -o d", 1, "empty.csv: found no pictures"),
        ("images set -o d --size 0", 2, "expected 1 to 4096 pixels"),
        ("images set -o d --size 5 --crop 3", 2, "cannot be used with"),
        (
            "images set -o d --grey --normalize imagenet",
            2,
            "--normalize imagenet is for images of 3 channels, found 1",
        ),
    ] {
        let refused = tool(call, folder.path()).run();
        assert_eq!(refused.code, code, "{}", refused.stderr);
        assert!(refused.stderr.contains(message), "{}", refused.stderr);
    }
}

#[test]
fn grey_images_have_one_channel() {
    let folder = tempfile::tempdir().unwrap();
    for (class, rgb) in [("a", [200, 100, 0]), ("b", [7, 7, 7])] {
        fs::create_dir_all(folder.path().join("set").join(class)).unwrap();
        fs::write(folder.path().join(format!("set/{class}/x.png")), png_of_a_pixel(rgb)).unwrap();
    }
    assert_eq!(tool("images set -o out --size 2 --grey --normalize none", folder.path()).run().output(), b"");
    let images = file(&folder, "out/images.npy");
    assert_eq!(shape(&images), [2, 1, 2, 2]);
    // As Pillow has it: (200 * 19595 + 100 * 38470 + 32768) / 65536 is 118.9.
    assert_eq!(data(&images), [118, 118, 118, 118, 7, 7, 7, 7]);
    assert_eq!(tool("images set -o unit --size 2 --grey", folder.path()).run().output(), b"");
    assert_eq!(f4_values(&file(&folder, "unit/images.npy"))[4], 7.0 / 255.0);
}

#[test]
fn examples_come_in_the_order_of_shuffle() {
    let folder = classes();
    fs::create_dir_all(folder.path().join("clips")).unwrap();
    for word in ["yes", "no"] {
        fs::create_dir_all(folder.path().join("clips").join(word)).unwrap();
        for clip in ["second.wav", "short.wav", "long.wav"] {
            let to = folder.path().join("clips").join(word).join(clip);
            fs::copy(fixtures().join("clips").join(clip), to).unwrap();
        }
    }
    for list in ["validation_list.txt", "testing_list.txt"] {
        fs::write(folder.path().join("clips").join(list), "").unwrap();
    }
    let lines = [
        "filename,xmin,ymin,xmax,ymax",
        "zebra/full.jpg,0,0,1,1",
        "ant/tall.png,0,0,2,2",
        "zebra/grey.jpg,0,0,3,3",
        "ant/clear.png,0,0,4,4",
    ];
    fs::write(folder.path().join("set/boxes.csv"), lines.join("\n")).unwrap();
    for (call, streams) in [
        ("images set --resize 8 --crop 8", ["images", "labels"]),
        ("speech clips", ["clips", "labels"]),
        ("boxes set/boxes.csv --size 8", ["images", "boxes"]),
    ] {
        assert_eq!(tool(&format!("{call} -q -o plain"), folder.path()).run().output(), b"");
        assert_eq!(tool(&format!("{call} -q -o mixed --shuffle 5"), folder.path()).run().output(), b"");
        let [a, b] = streams;
        let shuffle = format!("shuffle --seed 5 plain/{a}.npy plain/{b}.npy -o a.npy -o b.npy");
        assert_eq!(tool(&shuffle, folder.path()).run().output(), b"");
        for (name, expected) in [(a, "a.npy"), (b, "b.npy")] {
            assert!(file(&folder, &format!("mixed/{name}.npy")) == file(&folder, expected), "{call}: {name}");
        }
        let (plain, mixed) = (file(&folder, &format!("plain/{a}.npy")), file(&folder, "a.npy"));
        assert!(plain != mixed, "{call}: seed 5 changes the order");
    }
}

#[test]
fn red_is_added_to_red() {
    let folder = tempfile::tempdir().unwrap();
    // Pictures of one pixel, in PPM's order of colours, as PNG files by hand.
    for (class, rgb) in [("a", [200, 0, 0]), ("b", [0, 0, 100])] {
        fs::create_dir_all(folder.path().join("set").join(class)).unwrap();
        fs::write(folder.path().join(format!("set/{class}/x.png")), png_of_a_pixel(rgb)).unwrap();
    }
    let call = "images set -o out --resize 2 --crop 2 --normalize unit";
    assert_eq!(tool(call, folder.path()).run().output(), b"");
    let sum =
        Tool::new("parm-encode").args("--code sum -k 2 out/images.npy").within(folder.path()).run().output();
    assert_eq!(shape(&sum), [1, 3, 2, 2]);
    let planes = [[200.0 / 255.0; 4], [0.0; 4], [100.0 / 255.0; 4]];
    assert_eq!(f4_values(&sum), planes.concat());
}

/// A PNG of one pixel: stored blocks of zlib, and the sums that the format asks for.
fn png_of_a_pixel(rgb: [u8; 3]) -> Vec<u8> {
    let chunk = |name: &[u8], content: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(name);
        crc.update(content);
        [&(content.len() as u32).to_be_bytes(), name, content, &crc.sum().to_be_bytes()].concat()
    };
    let mut pixels = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::none());
    std::io::Write::write_all(&mut pixels, &[&[0], rgb.as_slice()].concat()).unwrap();
    let header = [0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0];
    let parts = [chunk(b"IHDR", &header), chunk(b"IDAT", &pixels.finish().unwrap()), chunk(b"IEND", b"")];
    [b"\x89PNG\r\n\x1a\n".as_slice(), &parts.concat()].concat()
}

#[test]
fn boxes_go_with_their_squeezed_pictures() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("pictures")).unwrap();
    for name in ["rgb.png", "tall.png"] {
        fs::copy(fixtures().join("pictures").join(name), folder.path().join("pictures").join(name)).unwrap();
    }
    let list = "filename,width,height,class,xmin,ymin,xmax,ymax\n\
                tall.png,9,61,tree,0,0,4.5,61\nrgb.png,45,37,edge,9,0,100,18.5\n";
    fs::write(folder.path().join("boxes.csv"), list).unwrap();
    let call = "boxes boxes.csv --images pictures -o out --size 24 --normalize none";
    assert_eq!(tool(call, folder.path()).run().output(), b"");
    let (images, boxes) = (file(&folder, "out/images.npy"), file(&folder, "out/boxes.npy"));
    assert_eq!((shape(&images), shape(&boxes)), (vec![2, 3, 24, 24], vec![2, 4]));
    assert_eq!(f4_values(&boxes), [-1.0, -1.0, 1.0, 2.0, -0.6, -1.0, 1.6, 1.0]);
    let plane = 3 * 24 * 24;
    for (row, name) in ["tall.png", "rgb.png"].into_iter().enumerate() {
        let expected = fs::read(fixtures().join(format!("pictures/{name}.fits.npy"))).unwrap();
        assert_eq!(data(&images)[row * plane..][..plane], data(&expected)[plane..], "{name}");
    }
    // Names are relative to the list without --images.
    let outcome = tool("boxes boxes.csv -o out", folder.path()).run();
    assert!(outcome.stderr.starts_with("parm-data: tall.png: cannot open"), "{}", outcome.stderr);
    fs::write(folder.path().join("boxes.csv"), list.replace("9,61", "61,9")).unwrap();
    let outcome = tool(call, folder.path()).run();
    let expected =
        "parm-data: pictures/tall.png: found a picture of 9x61 pixels, expected 61x9 as in the list";
    assert!(outcome.code == 1 && outcome.stderr.starts_with(expected), "{}", outcome.stderr);
}

#[test]
fn birds_are_read_from_their_tables() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("cub/images/a")).unwrap();
    fs::copy(fixtures().join("pictures/rgb.png"), folder.path().join("cub/images/a/x.png")).unwrap();
    for (name, text) in [
        ("images.txt", "1 a/x.png\n2 a/y.png\n"),
        ("bounding_boxes.txt", "1 0.0 0.0 22.5 37.0\n2 1 1 1 1\n"),
        ("train_test_split.txt", "1 0\n2 1\n"),
    ] {
        fs::write(folder.path().join("cub").join(name), text).unwrap();
    }
    assert_eq!(tool("boxes cub -o out --split test --size 8", folder.path()).run().output(), b"");
    assert_eq!(shape(&file(&folder, "out/images.npy")), [1, 3, 8, 8]);
    assert_eq!(f4_values(&file(&folder, "out/boxes.npy")), [-1.0, -1.0, 1.0, 2.0]);
    let outcome = tool("boxes cub -o out", folder.path()).run();
    assert!(outcome.stderr.starts_with("parm-data: cub/images/a/y.png: cannot open"), "{}", outcome.stderr);
}

#[test]
fn speech_is_read_by_its_lists() {
    let folder = tempfile::tempdir().unwrap();
    for (word, clips) in [("yes", ["second", "short"]), ("no", ["long", "second"])] {
        fs::create_dir_all(folder.path().join("set").join(word)).unwrap();
        for clip in clips {
            let to = folder.path().join(format!("set/{word}/{clip}.wav"));
            fs::copy(fixtures().join(format!("clips/{clip}.wav")), to).unwrap();
        }
    }
    fs::write(folder.path().join("set/validation_list.txt"), "yes/second.wav\n").unwrap();
    fs::write(folder.path().join("set/testing_list.txt"), "no/long.wav\n").unwrap();
    for (split, labels, first) in
        [("train", vec![0, 1], "second"), ("validation", vec![1], "second"), ("test", vec![0], "long")]
    {
        let call = format!("speech set -o out --split {split}");
        assert_eq!(tool(&call, folder.path()).run().output(), b"");
        assert_eq!(data(&file(&folder, "out/labels.npy")), labels, "{split}");
        let clips = file(&folder, "out/clips.npy");
        assert_eq!(shape(&clips), [labels.len(), 1, 161, 101]);
        let expected = fs::read(fixtures().join(format!("clips/{first}.spectrogram.npy"))).unwrap();
        for (found, expected) in f4_values(&clips)[..101].iter().zip(f4_values(&expected)) {
            assert!((found - expected).abs() <= 1e-5 * expected.abs().max(0.1), "{found} for {expected}");
        }
    }
    assert_eq!(file(&folder, "out/classes.json"), b"[\n  \"no\",\n  \"yes\"\n]\n");
}

#[test]
fn cifar_is_read_and_scaled() {
    let folder = tempfile::tempdir().unwrap();
    let record = |fine: u8, rgb: [u8; 3]| [vec![0, fine], rgb.map(|pixel| [pixel; 1024]).concat()].concat();
    fs::write(folder.path().join("train.bin"), [record(99, [0, 51, 255]), record(7, [255, 51, 0])].concat())
        .unwrap();
    fs::write(folder.path().join("test.bin"), record(3, [1, 2, 3])).unwrap();
    let read = |options: &str| {
        assert_eq!(tool(&format!("cifar . -o out {options}"), folder.path()).run().output(), b"");
        file(&folder, "out/images.npy")
    };
    let unit = read("");
    assert_eq!((shape(&unit), data(&file(&folder, "out/labels.npy"))), (vec![2, 3, 32, 32], &[99, 7][..]));
    assert_eq!(f4_values(&unit)[..3072], [[0.0; 1024], [0.2; 1024], [1.0; 1024]].concat());
    // The mean and deviation of each channel are its own.
    let own = f4_values(&read("--normalize standard --std 0.5"));
    assert_eq!(own[..3072], [[-1.0; 1024], [0.0; 1024], [1.0; 1024]].concat());
    assert_eq!(data(&read("--split test --normalize none")), [[1; 1024], [2; 1024], [3; 1024]].concat());
    let outcome = tool("cifar . -o out --split validation", folder.path()).run();
    assert_eq!(
        (outcome.code, outcome.stderr.as_str()),
        (2, "parm-data: CIFAR has no --split validation, expected train or test\n")
    );
}

#[test]
fn misuse_is_said_to_be_misuse() {
    let folder = classes();
    fs::write(folder.path().join("b.csv"), "filename,xmin,ymin,xmax,ymax\nx.png,1,2,3,4\n").unwrap();
    for (call, message) in [
        ("images set -o out --crop 300", "found --crop 300, expected at most --resize, 256"),
        ("images set -o out --normalize standard", "--normalize standard needs --mean and --std here"),
        ("images set -o out --mean 1", "--mean and --std go with --normalize standard"),
        (
            "images set -o out --normalize standard --mean 1,2 --std 1",
            "found 2 numbers for --mean, expected 1 or 3, one for each channel",
        ),
        (
            "images set -o out --normalize standard --mean 1 --std 1,0,1",
            "found --std of 0 or less, expected a number above 0",
        ),
        ("boxes b.csv -o out --split test", "--split goes with CUB-200-2011, not with a CSV file"),
        ("boxes set -o out --images x", "--images goes with a CSV file, not with CUB-200-2011"),
        (
            "boxes set -o out --split validation",
            "CUB-200-2011 has no --split validation, expected train or test",
        ),
        ("idx x y -o out --normalize imagenet", "--normalize imagenet is for images of 3 channels, found 1"),
        (
            "fetch imagenet -o out",
            "found the set 'imagenet', expected one of mnist, fashion-mnist, cifar-10, cifar-100, speech-commands, cub-200-2011",
        ),
    ] {
        let outcome = tool(call, folder.path()).run();
        let expected = format!("parm-data: {message}\n");
        assert_eq!((outcome.code, outcome.stderr), (2, expected), "{call}");
    }
    for call in ["fetch", "fetch mnist", "fetch mnist -o out --from x --cache y", "images set"] {
        assert_eq!(tool(call, folder.path()).run().code, 2, "{call}");
    }
}

#[test]
fn sets_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let text = String::from_utf8(tool("fetch --list", folder.path()).run().output()).unwrap();
    assert_eq!(text.lines().count(), 6);
    assert!(text.starts_with("mnist               12 MB  handwritten digits"), "{text}");
}

#[test]
fn a_failed_fetch_says_why_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let fetch = |server: &Server| {
        let call = format!("fetch cifar-10 -o out --cache cache --timeout 1 --base-url {}", server.url);
        let outcome = tool(&call, folder.path()).run();
        assert_eq!(outcome.code, 1);
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["cache"]);
        outcome.stderr
    };
    let file = "cifar-10-binary.tar.gz";
    let server = Server::start(|_| Answer::Bytes(answer("404 Not Found", &[], b"")));
    let url = &server.url;
    let expected = format!(
        "parm-data: cache/cifar-10/{file}.part: cannot download {url}/{file}: found status 404, expected 200\n"
    );
    assert_eq!(fetch(&server), expected);
    let server = Server::start(|_| Answer::Bytes(answer("200 OK", &[("Content-Length", "9")], b"abc")));
    let message = fetch(&server);
    let cut = format!(
        "cannot download {}/{file}: cut off after 3 bytes; the next call goes on from there",
        server.url
    );
    assert!(message.contains(&cut), "{message}");
    let server = Server::start(|_| Answer::Bytes(answer("200 OK", &[], b"abc")));
    let expected = "found the MD5 sum 900150983cd24fb0d6963f7d28e17f72, expected \
                    c32a1d4ab5d03f1284b67883e8d87530; it was removed";
    let message = fetch(&server);
    assert!(message.contains(expected), "{message}");
    let server = Server::start(|_| Answer::Hang(Vec::new()));
    let message = fetch(&server);
    assert!(message.contains("cannot download") && message.contains("timeout"), "{message}");
    fs::create_dir_all(folder.path().join("full/x")).unwrap();
    let outcome = tool("fetch mnist --from . -o full", folder.path()).run();
    assert_eq!(outcome.stderr, "parm-data: full: found files in it, expected an empty directory or none\n");
}

#[test]
fn a_signal_leaves_the_part_that_came_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|_| Answer::Hang(answer("200 OK", &[("Content-Length", "9")], b"abc")));
    let mut fetch = Command::new(tools::folder().join("parm-data"))
        .args(["fetch", "cifar-10", "-o", "out", "--cache", "cache", "--base-url", &server.url])
        .env("NO_PROXY", "127.0.0.1")
        .current_dir(folder.path())
        .spawn()
        .unwrap();
    let part = folder.path().join("cache/cifar-10/cifar-10-binary.tar.gz.part");
    while fs::read(&part).map_or(0, |bytes| bytes.len()) < 3 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "the cache and a directory to unpack to");
    assert!(Command::new("kill").arg(fetch.id().to_string()).status().unwrap().success());
    let signal = std::os::unix::process::ExitStatusExt::signal(&fetch.wait().unwrap());
    assert_eq!(signal, Some(15));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the cache");
    assert_eq!(fs::read(part).unwrap(), b"abc");
}
