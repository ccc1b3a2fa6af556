//! A code is the same code wherever it is named: on the command line and in parm-serve.json.

use clap::Parser;
use parm::codes::{CodeName, SpecifiedCode};
use parm_cli::Io;
use parm_cli::options::AnyCode;
use parm_cli::tools::encode::Encode;
use parm_config::{Config, Decoder, Encoder, code_of};

/// The code that `parm-encode` makes of these options.
fn by_options(options: &str) -> AnyCode {
    let options = Encode::try_parse_from(std::iter::once("parm-encode").chain(options.split(' '))).unwrap();
    options
        .curve
        .choose(&options.code, &mut Io::new("parm-test", std::io::empty(), std::io::sink(), std::io::sink()))
        .unwrap()
}

#[test]
fn options_and_files_make_the_same_matrices_of_the_same_words() {
    for (options, file) in [
        ("--code sum -k 3", r#"{"name": "sum", "k": 3}"#),
        ("--code sum -k 3 -r 2", r#"{"name": "sum", "k": 3, "r": 2}"#),
        ("--code concat -k 4", r#"{"name": "concat", "k": 4}"#),
        ("--code berrut -k 4", r#"{"name": "berrut", "k": 4}"#),
        ("--code berrut -k 4 --stragglers 2", r#"{"name": "berrut", "k": 4, "s": 2}"#),
        ("--code floater-hormann -k 5", r#"{"name": "floater-hormann", "k": 5}"#),
        ("--code floater-hormann -k 5 --degree 2", r#"{"name": "floater-hormann", "k": 5, "degree": 2}"#),
        ("--code spline -k 4", r#"{"name": "spline", "k": 4}"#),
        ("--code spline -k 4 --lambda-e 0.1 --lambda-d 0.1", r#"{"name": "spline", "k": 4, "lambda": 0.1}"#),
        ("--code spline -k 4 --lambda-e 0.1", r#"{"name": "spline", "k": 4, "lambda_e": 0.1}"#),
        ("--code spline -k 4 --lambda-d 0.2", r#"{"name": "spline", "k": 4, "lambda_d": 0.2}"#),
    ] {
        let text = format!(r#"{{"models": [{{"redundancy": {{"policy": "coded", "code": {file}}}}}]}}"#);
        let model = Config::parse(&text).unwrap().models.remove(0);
        let served = code_of(&model).unwrap().unwrap();
        match (by_options(options), &served.decoder) {
            (AnyCode::Systematic(chosen), Decoder::Linear(linear)) => {
                assert_eq!(&chosen.linear, linear, "{options}");
                let tiled = chosen.encoding == parm_cli::options::Encoding::Tiles;
                assert_eq!(tiled, matches!(served.encoder, Encoder::Concat), "{options}");
            }
            (AnyCode::Interpolating(code), Decoder::Interpolating(other)) => {
                assert_eq!(&code, other, "{options}");
            }
            (chosen, decoder) => panic!("{options}: {chosen:?} {decoder:?}"),
        }
    }
}

#[test]
fn a_code_that_is_too_large_is_refused_before_it_is_made() {
    for (file, expected) in [
        (r#"{"name": "sum", "k": 1000000000000}"#, "found 1000000000001 workers for k = 1000000000000"),
        (r#"{"name": "sum", "k": 2, "r": 18446744073709551615}"#, "expected at most 128"),
        (r#"{"name": "spline", "k": 2, "s": 1000000000000}"#, "expected at most 128"),
    ] {
        let text = format!(r#"{{"models": [{{"redundancy": {{"policy": "coded", "code": {file}}}}}]}}"#);
        let model = Config::parse(&text).unwrap().models.remove(0);
        let error = code_of(&model).unwrap_err();
        assert!(error.contains(expected), "{file}: {error}");
    }
}

#[test]
fn every_name_is_known_to_the_options() {
    for name in CodeName::ALL {
        let spec = parm::codes::CodeSpec::new(name, 4);
        let made = spec.make().unwrap();
        match (by_options(&format!("--code {name} -k 4")), made) {
            (AnyCode::Systematic(chosen), SpecifiedCode::Systematic(linear)) => {
                assert_eq!(chosen.linear, linear);
            }
            (AnyCode::Interpolating(code), SpecifiedCode::Interpolating(other)) => {
                assert_eq!(code, other);
            }
            (chosen, made) => panic!("{name}: {chosen:?} {made:?}"),
        }
    }
}
