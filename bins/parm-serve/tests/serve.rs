//! The program: options, signals, and the models inside it.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::{Server, ask, next};
use parm_testkit::Tool;
use parm_testkit::npy::{f4, f4_values};
use serde_json::{Value, json};

const SYNTHETIC: &str = r#"{"models": [{"name": "toy", "placement": "pooled",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}],
    "deadline_ms": 30000, "call_timeout_ms": 30000,
    "instances": [{"synthetic": {"behavior": {"service": {"distribution": "constant", "ms": 1000}}}}]}]}"#;

const ROW: &str = r#"{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}"#;

#[test]
fn sigterm_answers_what_was_asked_and_ends_with_0() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.json");
    std::fs::write(&config, SYNTHETIC).unwrap();
    let mut server = Server::start(&config, &[]);
    server.ready();
    let http = server.http;
    let body = std::thread::scope(|scope| {
        let asked = scope.spawn(move || ask(http, "POST", "/v2/models/toy/infer", ROW));
        server.holds();
        server.signal("TERM");
        asked.join().unwrap()
    });
    assert_eq!((body.0, body.1.contains("[3.0]")), (200, true), "{body:?}");
    assert_eq!(server.ended().code(), Some(0));
}

/// Known queries that are kept for the next groups are nothing that is waited for.
#[test]
fn sigterm_ends_with_0_as_soon_as_all_is_answered_also_while_a_changed_model_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.json");
    let coded = SYNTHETIC
        .replacen('{', r#"{"drain_ms": 600000, "#, 1)
        .replace(r#""toy","#, r#""toy", "redundancy": {"policy": "coded"},"#);
    for reloads in [false, true] {
        std::fs::write(&config, &coded).unwrap();
        let mut server = Server::start(&config, &[]);
        server.ready();
        let http = server.http;
        if reloads {
            let nowhere = r#"{"remote": {"url": "http://127.0.0.1:9"}}"#;
            let (before, _) = coded.split_once(r#"{"synthetic""#).unwrap();
            std::fs::write(&config, format!("{before}{nowhere}]}}]}}")).unwrap();
            server.signal("HUP");
            next(&server.log, "was reloaded");
        }
        let body = std::thread::scope(|scope| {
            let asked = scope.spawn(move || ask(http, "POST", "/v2/models/toy/infer", ROW));
            server.holds();
            server.signal("TERM");
            asked.join().unwrap()
        });
        assert_eq!((body.0, body.1.contains("[3.0]")), (200, true), "{body:?}");
        assert_eq!(server.ended().code(), Some(0));
    }
}

#[test]
fn a_journal_has_each_query_and_gets_its_name_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("c.json"), SYNTHETIC.replace("1000}", "5}")).unwrap();
    let journal = at("j.jsonl").display().to_string();
    let mut server = Server::start(&at("c.json"), &["--journal", &journal]);
    server.ready();
    // One after the other: they have the same row, and different numbers.
    for _ in 0..3 {
        assert_eq!(server.ask("POST", "/v2/models/toy/infer", ROW).0, 200);
    }
    assert!(!at("j.jsonl").exists());
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    let text = std::fs::read_to_string(at("j.jsonl")).unwrap();
    let entries: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |event: &str, field: &str| {
        let found = entries.iter().filter(|entry| entry["event"] == *event);
        found.map(|entry| entry[field].clone()).collect::<Vec<_>>()
    };
    assert_eq!(of("arrive", "query"), [0, 1, 2]);
    assert_eq!(of("dispatch", "queries"), [json!([0]), json!([1]), json!([2])]);
    assert_eq!(
        (of("answered", "call"), of("answer", "query")),
        (vec![json!(0), json!(1), json!(2)], of("arrive", "query"))
    );
    let times: Vec<u64> = entries.iter().map(|entry| entry["t_ns"].as_u64().unwrap()).collect();
    assert!(times.is_sorted() && times[3] - times[1] >= 5_000_000, "{text}");

    let mut two: Value = serde_json::from_str(SYNTHETIC).unwrap();
    let other = two["models"][0].clone();
    two["models"].as_array_mut().unwrap().push(other);
    two["models"][1]["name"] = "other".into();
    std::fs::write(at("two.json"), two.to_string()).unwrap();
    let refused = Tool::new("parm-serve").args("two.json --journal two.jsonl").within(folder.path()).run();
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("--journal: found 2 models in two.json, expected one"),
        "{}",
        refused.stderr
    );
}

/// What an instance says cannot forge a line of the log, nor tell the terminal anything.
#[test]
fn log_lines_escape_what_others_say() {
    let instance = parm_testkit::server::Server::start(|_| {
        let body = br#"{"error": "no\n2026-01-01 INFO all is well \u001b[2J\u009b"}"#;
        parm_testkit::server::Answer::Bytes(parm_testkit::server::answer("500 No", &[], body))
    });
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.json");
    let text = format!(
        r#"{{"http": "127.0.0.1:0", "grpc": null, "models": [{{"name": "m", "instances": [
            {{"remote": {{"url": "{}", "encoding": "json"}}, "roles": ["deployed"]}}]}}]}}"#,
        instance.url
    );
    std::fs::write(&config, text).unwrap();
    let mut process = std::process::Command::new(parm_testkit::tool::folder().join("parm-serve"))
        .arg(&config)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = std::io::BufReader::new(process.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("all is well") {
        line.clear();
        std::io::BufRead::read_line(&mut log, &mut line).unwrap();
        assert!(!line.is_empty(), "the log ended");
        assert!(!line.starts_with("2026-01-01"), "{line}");
    }
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(line.contains(r"no\n2026-01-01 INFO all is well \u{1b}[2J\u{9b}"), "{line}");
    assert!(line.trim_end().chars().all(|c| !c.is_control()), "{line:?}");
}

/// As many clients as the system allows, and a word if that is fewer than are configured.
#[test]
fn the_limit_of_open_files_is_raised() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.json");
    std::fs::write(&config, SYNTHETIC.replacen('{', r#"{"http": "127.0.0.1:0", "grpc": null, "#, 1)).unwrap();
    for (limits, is_said) in [("-Sn 100; ulimit -Hn 1000", true), ("-Sn 100", false)] {
        let parm = parm_testkit::tool::folder().join("parm-serve");
        let mut process = std::process::Command::new("sh")
            .args(["-c", &format!(r#"ulimit {limits}; exec "$0" "$1""#)])
            .args([parm.as_os_str(), config.as_os_str()])
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = std::io::BufReader::new(process.stderr.take().unwrap());
        let (mut line, mut said) = (String::new(), String::new());
        while !line.contains("listening") {
            line.clear();
            assert!(std::io::BufRead::read_line(&mut log, &mut line).unwrap() > 0, "the log ended");
            said += &line;
        }
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
        let open = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let numbers: Vec<&str> = open.split_whitespace().skip(3).take(2).collect();
        assert_eq!(numbers[0], numbers[1], "{open}");
        let hard = numbers[1].parse().unwrap_or(u64::MAX);
        assert_eq!(said.contains("need more open files"), hard < 4096 + 256, "{said}");
        assert!(!is_said || hard == 1000);
    }
}

#[test]
fn a_second_sigterm_ends_it_at_once() {
    use std::os::unix::process::ExitStatusExt;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.json");
    let slow = SYNTHETIC.replace("\"ms\": 1000", "\"ms\": 300000").replace("30000", "300000");
    std::fs::write(&config, slow).unwrap();
    let mut server = Server::start(&config, &[]);
    server.ready();
    let http = server.http;
    std::thread::spawn(move || {
        let mut stream = TcpStream::connect(http).unwrap();
        write!(
            stream,
            "POST /v2/models/toy/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{ROW}",
            ROW.len()
        )
        .unwrap();
        let _ = stream.read(&mut [0; 16]);
    });
    server.holds();
    server.signal("TERM");
    next(&server.log, "stopping");
    server.signal("TERM");
    assert_eq!(server.ended().signal(), Some(15));
}

#[test]
fn sighup_takes_over_the_file_and_keeps_the_old_one_if_it_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.json");
    std::fs::write(&config, SYNTHETIC).unwrap();
    let server = Server::start(&config, &[]);
    server.ready();
    std::fs::write(&config, "{").unwrap();
    server.signal("HUP");
    let line = next(&server.log, "the old configuration stays");
    assert!(line.contains("c.json") && line.contains("line 1"), "{line}");
    assert_eq!(server.ask("GET", "/v2/models/toy", "").0, 200);
    std::fs::write(&config, SYNTHETIC.replace("\"toy\"", "\"other\"")).unwrap();
    server.signal("HUP");
    next(&server.log, "was reloaded");
    server.ready();
    assert_eq!(
        (server.ask("GET", "/v2/models/toy", "").0, server.ask("GET", "/v2/models/other", "").0),
        (404, 200)
    );
}

#[test]
fn what_is_wrong_is_said_before_anything_listens() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.json");
    for (text, code, expected) in [
        ("{", 1, "c.json: the configuration: EOF while parsing"),
        (r#"{"models": []}"#, 1, "models: found none"),
    ] {
        std::fs::write(&config, text).unwrap();
        for option in ["--check-config", ""] {
            let run = Tool::new("parm-serve").arg(&config).args(option).run();
            assert_eq!(run.code, code, "{}", run.stderr);
            assert!(run.stderr.contains(expected), "{}", run.stderr);
        }
    }
    std::fs::write(&config, SYNTHETIC).unwrap();
    let run = Tool::new("parm-serve").arg(&config).args("--check-config -v").run();
    assert_eq!((run.code, run.stderr.contains("1 model, no error")), (0, true), "{}", run.stderr);
    let embedded = r#"{"models": [{"name": "m", "files": {"deployed": "gone.safetensors"},
        "instances": [{"embedded": {}, "roles": ["deployed"]}]}]}"#;
    std::fs::write(&config, embedded).unwrap();
    let run = Tool::new("parm-serve").arg(&config).args("--check-config").run();
    assert_eq!(
        (run.code, run.stderr.contains("gone.safetensors: No such file")),
        (1, true),
        "{}",
        run.stderr
    );
    // What everybody may do is said, unless it is not wanted.
    let open = SYNTHETIC.replacen('{', r#"{"management": "open", "#, 1);
    for (text, options, expected) in [
        (SYNTHETIC, "", "note: open to everybody: inference (HTTP 127.0.0.1:8000, gRPC 127.0.0.1:8001)\n"),
        (&open, "", "note: open to everybody: loading and unloading models"),
        (&open, "-q", ""),
    ] {
        std::fs::write(&config, text).unwrap();
        let run = Tool::new("parm-serve").arg(&config).args(&format!("--check-config {options}")).run();
        assert_eq!((run.code, run.stderr.contains(expected)), (0, true), "{}", run.stderr);
        assert_eq!(run.stderr.contains("loading"), expected.contains("loading"), "{}", run.stderr);
    }
    let missing = SYNTHETIC.replacen('{', r#"{"keys": {"inference": "gone.keys"}, "#, 1);
    std::fs::write(&config, missing).unwrap();
    let run = Tool::new("parm-serve").arg(&config).args("--check-config").run();
    assert_eq!((run.code, run.stderr.contains("gone.keys")), (1, true), "{}", run.stderr);
    std::fs::write(&config, SYNTHETIC).unwrap();
    let run = Tool::new("parm-serve").arg(&config).args("--check-config --grpc 127.0.0.1:8000").run();
    assert_eq!((run.code, run.stderr.contains("127.0.0.1:8000 twice")), (1, true), "{}", run.stderr);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = Tool::new("parm-serve").arg(&config).args(&format!("--http {address}")).run();
    assert_eq!((run.code, run.stderr.contains(&address)), (1, true), "{}", run.stderr);
    let run = Tool::new("parm-serve").args("/nowhere.json").run();
    let expected = "parm-serve: /nowhere.json: No such file or directory (os error 2)\n";
    assert_eq!((run.code, &*run.stderr), (1, expected));
    assert_eq!(Tool::new("parm-serve").args("--schema c.json").run().code, 2);
    let schema = Tool::new("parm-serve").args("--schema").run();
    assert_eq!((schema.code, schema.stdout.starts_with(b"{")), (0, true));
}

/// What can never be loaded is found before a server starts: models and code directories that are broken,
/// or were not made for each other.
#[test]
fn check_config_loads_embedded_models_and_their_codes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let weights: Vec<f32> = (0..12).map(|at| at as f32).collect();
    let model = parm_testkit::safetensors::linear(&[4], 3, &weights);
    for name in ["model", "parity-0.safetensors"] {
        std::fs::write(path.join(name), &model).unwrap();
    }
    std::fs::write(path.join("cut"), &model[..model.len() - 7]).unwrap();
    let code = |changes: &str| {
        let text =
            format!(r#"{{"format": 2, "code": "sum", "k": 2, "parity": ["parity-0.safetensors"]{changes}}}"#);
        std::fs::write(path.join("code.json"), text).unwrap();
    };
    let check = |deployed: &str, directory: &str, shape: &str| {
        let files = match deployed {
            "" => String::new(),
            file => format!(r#""deployed": "{file}""#),
        };
        let text = format!(
            r#"{{"models": [{{"name": "m", "placement": "pooled", "files": {{{files}}},
                "inputs": [{{"name": "x", "datatype": "FP32", "shape": {shape}}}],
                "outputs": [{{"name": "y", "datatype": "FP32", "shape": [3]}}],
                "redundancy": {{"policy": "coded", "code": {{"name": "directory", "directory": "{directory}"}}}},
                "instances": [{{"embedded": {{"device": "cuda"}}}}]}}]}}"#
        );
        std::fs::write(path.join("c.json"), text).unwrap();
        Tool::new("parm-serve").args("c.json --check-config").within(path).run()
    };
    let refused = |deployed: &str, directory: &str, shape: &str, expected: &str| {
        let run = check(deployed, directory, shape);
        assert_eq!((run.code, run.stderr.contains(expected)), (1, true), "{expected}: {}", run.stderr);
    };
    code("");
    // Also where the device is another one: a configuration may be checked on any machine.
    let run = check("model", ".", "[4]");
    assert_eq!(run.code, 0, "{}", run.stderr);
    refused("gone", ".", "[4]", "gone: No such file");
    refused("cut", ".", "[4]", "cut: ");
    refused("model", ".", "[5]", "models[0].instances[0]: ");
    refused("model", "nowhere", "[4]", "nowhere/code.json: No such file");
    for (changes, expected) in [
        (r#", "query_shape": [4], "prediction_shape": [3]"#, ""),
        (r#", "query_shape": [2, 2]"#, "found queries of shape [4], but the code "),
        (r#", "deployed": {"sha256": "00", "name": "other"}"#, "model: found the SHA-256 "),
        (r#", "k": 2"#, "duplicate field `k`"),
        (r#", "decoder": "decoder.pt""#, "decoder.pt: not found"),
    ] {
        code(changes);
        match expected {
            "" => assert_eq!(check("model", ".", "[4]").code, 0),
            expected => refused("model", ".", "[4]", expected),
        }
    }
    // A model that was trained with its code is the one to run.
    code("");
    refused("", ".", "[4]", "models[0].instances[0]: ");
    code(r#", "deployed": {"sha256": "00", "name": "model", "joint": true}"#);
    assert_eq!(check("", ".", "[4]").code, 0);
    code(r#", "deployed": {"sha256": "00", "name": "cut", "joint": true}"#);
    refused("", ".", "[4]", "cut: ");
    code("");
    std::fs::write(path.join("parity-0.safetensors"), "broken").unwrap();
    refused("model", ".", "[4]", "parity-0.safetensors: ");
    code(r#", "decoder": "cut""#);
    std::fs::write(path.join("parity-0.safetensors"), &model).unwrap();
    refused("model", ".", "[4]", "cut: ");
}

/// One of two instances takes ten seconds: what it has is rebuilt, exactly, since the model is linear.
#[test]
fn embedded_models_rebuild_what_they_predict_wherever_parity_queries_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let weights: Vec<f32> = (0..12).map(|at| (at as f32).sin()).collect();
    std::fs::write(folder.path().join("model"), parm_testkit::safetensors::linear(&[4], 3, &weights))
        .unwrap();
    for encode in [true, false] {
        let config = folder.path().join("c.json");
        let text = format!(
            r#"{{"models": [{{"name": "m", "deadline_ms": 20000, "call_timeout_ms": 20000,
                "inputs": [{{"name": "x", "datatype": "FP32", "shape": [4]}}],
                "outputs": [{{"name": "y", "datatype": "FP32", "shape": [3]}}],
                "files": {{"deployed": "model", "parity": ["model"]}},
                "redundancy": {{"policy": "coded", "code": {{"name": "sum", "k": 2}}}},
                "instances": [{{"embedded": {{}}, "roles": ["deployed"]}},
                    {{"embedded": {{"encode": {encode}}}, "roles": ["parity-0"]}},
                    {{"synthetic": {{"behavior": {{"service": {{"distribution": "constant", "ms": 10000}}}}}},
                        "roles": ["deployed"]}}]}}]}}"#
        );
        std::fs::write(&config, text).unwrap();
        let server = Server::start(&config, &[]);
        server.ready();
        let http = server.http;
        let ask_some = |client: usize| {
            let rebuilt = (0..10).map(|at| {
                let row = [0, 1, 2, 3].map(|axis| ((client * 40 + at * 4 + axis) as f32).cos());
                let body = format!(
                    r#"{{"inputs": [{{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": {row:?}}}]}}"#
                );
                let (code, answer) = ask(http, "POST", "/v2/models/m/infer", &body);
                assert_eq!(code, 200, "{answer}");
                let found: serde_json::Value = serde_json::from_str(&answer).unwrap();
                for (output, weights) in weights.chunks(4).enumerate() {
                    let expected: f32 = weights.iter().zip(&row).map(|(weight, value)| weight * value).sum();
                    let found = found["outputs"][0]["data"][output].as_f64().unwrap();
                    assert!((found - f64::from(expected)).abs() < 1e-5, "{expected}, {answer}");
                }
                usize::from(!found["parameters"]["parm_reconstructed"].is_null())
            });
            rebuilt.sum::<usize>()
        };
        let rebuilt: usize = std::thread::scope(|scope| {
            let clients = [0, 1, 2, 3].map(|client| scope.spawn(move || ask_some(client)));
            clients.map(|client| client.join().unwrap()).iter().sum()
        });
        assert!(rebuilt >= 1);
    }
}

/// Both the deployed model and the parity model are exported programs, and one of two instances takes ten seconds.
#[test]
fn embedded_exported_programs_answer_and_rebuild_as_the_tools_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let digits = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/digits");
    std::fs::copy(digits.join("model.pt2"), path.join("model.pt2")).unwrap();
    let text = r#"{"models": [{"name": "digits", "deadline_ms": 20000, "call_timeout_ms": 20000,
        "files": {"deployed": "model.pt2", "parity": ["model.pt2"]},
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [10]}],
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 8, 8]}],
        "redundancy": {"policy": "coded", "code": {"name": "sum", "k": 2}},
        "instances": [{"embedded": {}, "roles": ["deployed"]}, {"embedded": {}, "roles": ["parity-0"]},
            {"synthetic": {"behavior": {"service": {"distribution": "constant", "ms": 10000}}},
                "roles": ["deployed"]}]}]}"#;
    let config = path.join("c.json");
    std::fs::write(&config, text).unwrap();
    let server = Server::start(&config, &[]);
    server.ready();
    let images = f4_values(&std::fs::read(digits.join("test.npy")).unwrap());
    let infer = |queries: Vec<u8>| {
        let call = Tool::new("parm-infer").args("--threads 1 -m model.pt2").within(path);
        f4_values(&call.stdin(queries).run().output())
    };
    let (mut answered, mut rebuilt) = (0, 0);
    for pair in images.chunks(2 * 64).take(5) {
        let body = format!(
            r#"{{"inputs": [{{"name": "x", "shape": [2, 1, 8, 8], "datatype": "FP32", "data": {pair:?}}}]}}"#
        );
        let (code, answer) = server.ask("POST", "/v2/models/digits/infer", &body);
        assert_eq!(code, 200, "{answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let queries = f4(&[2, 1, 8, 8], pair);
        let sum = Tool::new("parm-encode").args("--code sum -k 2").stdin(queries.clone()).run().output();
        let (own, parity) = (infer(queries), infer(sum));
        let which = answer["parameters"]["parm_reconstructed"].as_str().unwrap_or_default();
        for row in 0..2 {
            let is_rebuilt = which.split(',').any(|index| index == row.to_string());
            *(if is_rebuilt { &mut rebuilt } else { &mut answered }) += 1;
            for class in 0..10 {
                let [mine, other] = [row, 1 - row].map(|row| own[row * 10 + class]);
                let expected = if is_rebuilt { parity[class] - other } else { mine };
                let found = answer["outputs"][0]["data"][row * 10 + class].as_f64().unwrap();
                assert!((found - f64::from(expected)).abs() < 1e-4, "{row} {class}: {expected}, {answer}");
            }
        }
    }
    assert!(answered >= 1 && rebuilt >= 1, "{answered} {rebuilt}");
}

/// It runs without libtorch, which is loaded only at the start.
#[test]
fn a_reload_that_first_has_embedded_models_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.json");
    std::fs::write(&config, SYNTHETIC).unwrap();
    let server = Server::start(&config, &[]);
    server.ready();
    let model = parm_testkit::safetensors::linear(&[4], 3, &[0.5; 12]);
    std::fs::write(folder.path().join("model"), model).unwrap();
    let embedded = r#"{"models": [{"name": "m", "placement": "pooled", "files": {"deployed": "model"},
        "instances": [{"embedded": {}}]}]}"#;
    std::fs::write(&config, embedded).unwrap();
    server.signal("HUP");
    let line = next(&server.log, "the old configuration stays");
    assert!(line.contains("c.json") && line.contains("need libtorch") && line.contains("restart"), "{line}");
    assert_eq!(server.ask("GET", "/v2/models/toy", "").0, 200);
    drop(server);

    let server = Server::start(&config, &[]);
    server.ready();
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", server.process.id())).unwrap();
    assert!(maps.contains("libtorch_cpu.so"), "a process of the same id takes over");
}

#[test]
fn a_configuration_with_embedded_models_on_a_pipe_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model"), parm_testkit::safetensors::linear(&[4], 3, &[0.5; 12]))
        .unwrap();
    let embedded = r#"{"models": [{"name": "m", "placement": "pooled", "files": {"deployed": "model"},
        "instances": [{"embedded": {}}]}]}"#;
    let run = Tool::new("parm-serve").args("--check-config /dev/stdin").stdin(embedded).run();
    assert_eq!((run.code, run.stderr.contains("expected a file")), (1, true), "{}", run.stderr);
    let run = Tool::new("parm-serve").args("--check-config -q /dev/stdin").stdin(SYNTHETIC).run();
    assert_eq!((run.code, &*run.stderr), (0, ""));
}
