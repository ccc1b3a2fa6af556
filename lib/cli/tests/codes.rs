//! A code is the same code wherever it is named: on the command line, in parm-serve.json and in code.json.

use clap::Parser;
use parm::codes::{Code, CodeName, CodeSpec};
use parm_cli::Io;
use parm_cli::tools::encode::Encode;
use parm_config::{Config, code_of};

/// The code that `parm-encode` makes of these options.
fn by_options(options: &str) -> Code {
    let options = Encode::try_parse_from(std::iter::once("parm-encode").chain(options.split(' '))).unwrap();
    options
        .curve
        .choose(&options.code, &mut Io::new("parm-test", std::io::empty(), std::io::sink(), std::io::sink()))
        .unwrap()
}

/// The model of a server with this code.
fn model(code: &str) -> parm_config::Model {
    let text = format!(r#"{{"models": [{{"redundancy": {{"policy": "coded", "code": {code}}}}}]}}"#);
    Config::parse(&text).unwrap().models.remove(0)
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
        assert_eq!(Some(by_options(options)), code_of(&model(file)).unwrap(), "{options}");
    }
}

#[test]
fn a_code_json_makes_the_matrices_that_options_make() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p0.pt"), "").unwrap();
    std::fs::write(folder.path().join("p1.pt"), "").unwrap();
    for (options, file) in [
        ("--code sum -k 3", r#"{"format": 2, "code": "sum", "k": 3, "parity": ["p0.pt"]}"#),
        (
            "--code sum -k 3 -r 2",
            r#"{"format": 2, "code": "sum", "k": 3, "r": 2, "parity": ["p0.pt", "p1.pt"]}"#,
        ),
        ("--code concat -k 4", r#"{"format": 2, "code": "concat", "k": 4, "parity": ["p0.pt"]}"#),
    ] {
        std::fs::write(folder.path().join("code.json"), file).unwrap();
        let (named, trained) = (by_options(options), Code::load(folder.path()).unwrap());
        assert_eq!((named.name(), named.kind()), (trained.name(), trained.kind()), "{options}");
        assert_eq!(named.encoding(), trained.encoding(), "{options}");
        assert_eq!(trained.parity_models().len(), named.r(), "{options}");
        // The same directory, by the other two ways that name one.
        let path = folder.path().display();
        assert_eq!(by_options(&format!("--code {path}")), trained, "{options}");
        let served = code_of(&model(&format!(r#"{{"name": "directory", "directory": "{path}"}}"#)));
        assert_eq!(served.unwrap(), Some(trained), "{options}");
    }
}

#[test]
fn a_code_that_is_too_large_is_refused_before_it_is_made() {
    for (file, expected) in [
        (r#"{"name": "sum", "k": 1000000000000}"#, "found 1000000000001 workers for k = 1000000000000"),
        (r#"{"name": "sum", "k": 2, "r": 18446744073709551615}"#, "expected at most 128"),
        (r#"{"name": "spline", "k": 2, "s": 1000000000000}"#, "expected at most 128"),
    ] {
        let error = code_of(&model(file)).unwrap_err().to_string();
        assert!(error.contains(expected), "{file}: {error}");
    }
}

#[test]
fn a_parameter_of_another_code_is_refused_by_its_name() {
    for (code, expected) in [
        (
            r#"{"name": "floater-hormann", "k": 2, "lambda": 0.1}"#,
            "found 'lambda' for the code floater-hormann",
        ),
        (r#"{"name": "sum", "k": 2, "s": 1}"#, "found 's' for the code sum"),
        (r#"{"name": "concat", "k": 2, "r": 1}"#, "found 'r' for the code concat"),
        (r#"{"name": "directory", "directory": "x", "k": 2}"#, "found 'k' for the code directory"),
        (r#"{"name": "sum"}"#, "found no 'k', which the code sum needs"),
        (r#"{"name": "directory"}"#, "found no 'directory', which the code directory needs"),
        (
            r#"{"name": "replicate", "k": 2}"#,
            "found the code 'replicate', expected one of sum, concat, berrut",
        ),
        (r#"{"name": "sum", "k": 2, "size": 3}"#, "unknown field `size`"),
    ] {
        let text = format!(r#"{{"models": [{{"redundancy": {{"policy": "coded", "code": {code}}}}}]}}"#);
        let error = Config::parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("redundancy"), "{code}: {error}");
    }
}

#[test]
fn every_name_is_known_to_the_options() {
    for name in CodeName::ALL {
        let made = Code::new(&CodeSpec::new(name, 4)).unwrap();
        assert_eq!(by_options(&format!("--code {name} -k 4")), made);
    }
}
