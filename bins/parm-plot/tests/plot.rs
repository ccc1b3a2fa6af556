//! `parm-plot` as a process.

use std::fs;
use std::path::Path;

use parm_testkit::{Outcome, Tool};
use tempfile::TempDir;

const METRICS: &str = r#"{"epoch":1,"train_loss":2.5,"validation_loss":2.0,"agreement":0.5,"A_d":0.45,"lr":0.001,"seconds":0.1}
{"epoch":2,"train_loss":1.5,"validation_loss":1.2,"agreement":0.7,"A_d":0.65,"lr":0.001,"seconds":0.1}
{"epoch":3,"train_loss":1.1,"validation_loss":1.0,"agreement":0.8,"A_d":0.75,"lr":0.001,"seconds":0.1}
"#;

const COMPARISON: &str = r#"{"format":1,"recommendation":"none","rows":[
{"code":"none","k":2,"extra_workers":1,"lost":1,"A_a":0.98,"A_d":null,"A_all":0.6,"low":0.58,"high":0.62,"agreement":null},
{"code":"none","k":8,"extra_workers":1,"lost":1,"A_a":0.98,"A_d":null,"A_all":0.88,"low":0.87,"high":0.89,"agreement":null},
{"code":"berrut <&>","k":2,"extra_workers":1,"lost":1,"A_a":null,"A_d":0.9,"A_all":0.9,"low":0.89,"high":0.91,"agreement":0.91},
{"code":"berrut <&>","k":8,"extra_workers":1,"lost":1,"A_a":null,"A_d":0.86,"A_all":0.86,"low":0.85,"high":0.87,"agreement":0.87},
{"code":"berrut <&>","k":8,"extra_workers":2,"lost":2,"A_a":null,"A_d":0.81,"A_all":0.81,"low":0.8,"high":0.82,"agreement":0.82}]}"#;

fn stage() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("metrics.jsonl"), METRICS).unwrap();
    fs::write(folder.path().join("compare.json"), COMPARISON).unwrap();
    folder
}

fn plot(folder: &Path, arguments: &str) -> Outcome {
    Tool::new("parm-plot").args(arguments).within(folder).run()
}

fn svg(folder: &Path, arguments: &str) -> String {
    String::from_utf8(plot(folder, arguments).output()).unwrap()
}

/// The texts of an SVG, as they are shown.
fn texts(svg: &str) -> Vec<String> {
    let shown = |text: &str| text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let texts = svg.split("<text").skip(1).filter_map(|text| text.split_once('>')?.1.split_once("</text"));
    texts.map(|(text, _)| shown(text.trim())).collect()
}

#[test]
fn curves_show_losses_and_shares_within_the_image() {
    let folder = stage();
    let image = svg(folder.path(), "curves metrics.jsonl --title Trained --size 600x400");
    let texts = texts(&image);
    for expected in ["Trained", "epoch", "loss", "train loss", "validation loss", "agreement", "A_d"] {
        assert!(texts.iter().any(|text| text == expected), "{expected} in {texts:?}");
    }
    assert!(image.contains("width=\"600\" height=\"400\""));
    let heights = image.split(" y=\"").skip(1).map(|rest| rest.split('"').next().unwrap().parse().unwrap());
    assert!(heights.fold(0.0, f64::max) <= 400.0, "within the image");
}

#[test]
fn comparisons_have_a_line_for_each_code_that_differs_without_color() {
    let folder = stage();
    let image = svg(folder.path(), "k compare.json --lost 1");
    let shown = texts(&image);
    for expected in ["k", "accuracy A_all", "none", "berrut <&>"] {
        assert!(shown.iter().any(|text| text == expected), "{expected} in {shown:?}");
    }
    assert!(image.contains("stroke-dasharray"), "lines differ in dashes");
    let workers = svg(folder.path(), "workers compare.json -k 8 --score A_d");
    let shown = texts(&workers);
    assert!(shown.iter().any(|text| text == "accuracy A_d"), "{shown:?}");
    assert!(!shown.iter().any(|text| text == "none"), "a code without the score has no line: {shown:?}");
}

#[test]
fn png_has_the_size_that_is_asked_for() {
    let folder = stage();
    assert_eq!(plot(folder.path(), "k compare.json --lost 1 --size 400x300 -o k.png").output(), b"");
    let decoder =
        png::Decoder::new(std::io::BufReader::new(fs::File::open(folder.path().join("k.png")).unwrap()));
    let mut reader = decoder.read_info().unwrap();
    assert_eq!((reader.info().width, reader.info().height), (400, 300));
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    let dark = pixels.chunks_exact(3).filter(|pixel| pixel.iter().all(|&channel| channel < 80)).count();
    assert!((200..60_000).contains(&dark), "{dark} dark pixels: axes and text on white");
}

#[test]
fn the_same_results_make_the_same_bytes() {
    let folder = stage();
    for format in ["svg", "png"] {
        let image = || plot(folder.path(), &format!("k compare.json --lost 1 --format {format}")).output();
        assert!(image() == image(), "{format}");
    }
    let image = svg(folder.path(), "curves metrics.jsonl");
    assert!(image.contains("sans-serif\""), "viewers without the font have another");
}

#[test]
fn what_is_no_result_is_refused() {
    let folder = stage();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("empty", "");
    write("cut.jsonl", &METRICS[..200]);
    write("back.jsonl", &METRICS.lines().rev().collect::<Vec<_>>().join("\n"));
    write("future.json", &COMPARISON.replace("\"format\":1", "\"format\":3"));
    write("nameless.json", &COMPARISON.replacen("\"code\":\"none\",", "", 1));
    write("high.json", &COMPARISON.replacen("\"A_all\":0.6", "\"A_all\":60", 1));
    write("twice.json", &COMPARISON.replacen("\"k\":8", "\"k\":2", 1));
    for (call, code, message) in [
        ("curves empty -o out.svg", 1, "empty: found no epochs, expected a line of JSON for each"),
        ("curves cut.jsonl -o out.svg", 1, "cut.jsonl: line 2"),
        ("curves back.jsonl -o out.svg", 1, "back.jsonl: line 2: found epoch 2 after epoch 3"),
        ("curves missing -o out.svg", 1, "missing: cannot open"),
        ("k future.json -o out.svg", 1, "future.json: found format 3, expected 1 or 2"),
        ("k nameless.json -o out.svg", 1, "nameless.json: row 0: found no \"code\""),
        (
            "k high.json -o out.svg",
            1,
            "high.json: row 0: found 60 as \"A_all\", expected a share from 0 to 1",
        ),
        ("k twice.json -o out.svg", 1, "found two rows of none"),
        ("k compare.json -k 5 -o out.svg", 1, "found 5 rows and none that is selected"),
        ("k compare.json -o out.gif", 2, "out.gif: found a name that ends in neither .svg nor .png"),
        ("k compare.json --size 10x10 -o out.svg", 2, "expected WIDTHxHEIGHT from 300x200"),
        ("curves metrics.jsonl -o /dev/full --format svg", 1, "No space left on device"),
    ] {
        let refused = plot(folder.path(), call);
        assert!(refused.code == code && refused.stderr.contains(message), "{call}: {}", refused.stderr);
        assert!(!folder.path().join("out.svg").exists() && refused.stdout.is_empty(), "{call}");
    }
}

#[test]
fn characters_that_the_font_has_not_are_named_where_boxes_stand_for_them() {
    let folder = stage();
    let plot = |title: &str, more: &str| {
        let call = Tool::new("parm-plot").args("curves metrics.jsonl --title").arg(title).args(more);
        let outcome = call.within(folder.path()).run();
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        outcome.stderr
    };
    let warning = plot("\u{5ea6}: \u{7cbe}\u{5ea6} of \u{3b1}, \u{e9}t\u{e9}", "-o o.png");
    let expected = "parm-plot: warning: o.png: the font has no \u{5ea6} \u{7cbe}: boxes stand for them; in SVG, \
                    viewers use fonts of their own\n";
    assert_eq!(warning, expected);
    assert_eq!(plot("\u{7cbe}\u{5ea6}", "-o o.png -q"), "");
    // What XML forbids is replaced by what the font has.
    assert_eq!(plot("\u{7}\u{ffff}", "-o o.png"), "");
    // Greek and accents it has; and with SVG it is the viewer's font that counts.
    assert_eq!(plot("\u{3b1} \u{2264} \u{e9}t\u{e9}", "-o o.png"), "");
    assert_eq!(plot("\u{7cbe}\u{5ea6}", "-o o.svg"), "");
}

/// A comparison: the code, its k, the accuracy of its deployed model and A_d.
fn comparison(rows: &[(&str, u32, f64, f64)]) -> String {
    let row = |(code, k, accuracy, degraded): &(&str, u32, f64, f64)| {
        format!(
            r#"{{"code":"{code}","k":{k},"extra_workers":1,"lost":1,"accuracy":{accuracy},"A_d":{degraded}}}"#
        )
    };
    format!(r#"{{"format":1,"rows":[{}]}}"#, rows.iter().map(row).collect::<Vec<_>>().join(","))
}

#[test]
fn joint_trainings_of_several_reports_are_a_line_for_each_code_and_k() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let write =
        |name: &str, rows: &[(&str, u32, f64, f64)]| fs::write(path.join(name), comparison(rows)).unwrap();
    write(
        "a.json",
        &[("none", 4, 0.98, 0.1), ("sum (joint)", 4, 0.97, 0.93), ("berrut (joint, b)", 8, 0.98, 0.9)],
    );
    write("b.json", &[("replicate", 4, 0.98, 0.98), ("sum (joint, c)", 4, 0.98, 0.91)]);
    // Format 2 says the parts of the name apart.
    let row = r#"{"code":"spline:joint:d","name":"spline","training":"joint","k":4,"extra_workers":1,"lost":1,
        "deployed":0.96,"A_d":0.8}"#;
    fs::write(path.join("c.json"), format!(r#"{{"format":2,"rows":[{row}]}}"#)).unwrap();
    assert!(texts(&svg(path, "joint c.json")).contains(&"spline:joint, k = 4".to_owned()));
    let all = texts(&svg(path, "joint a.json b.json"));
    for expected in ["sum (joint), k = 4", "berrut (joint), k = 8", "accuracy of the deployed model"] {
        assert_eq!(all.iter().filter(|text| *text == expected).count(), 1, "{expected} in {all:?}");
    }
    assert!(!all.iter().any(|text| text.contains("none") || text.contains("replicate")), "{all:?}");
    let some = texts(&svg(path, "joint a.json b.json -k 4"));
    assert!(!some.iter().any(|text| text.contains("berrut")), "{some:?}");
    let refused = plot(path, "joint a.json -k 3");
    assert_eq!((refused.code, refused.stderr.lines().count()), (1, 1), "{}", refused.stderr);
    assert!(refused.stderr.contains("found accuracy and A_d of no code"), "{}", refused.stderr);
}
