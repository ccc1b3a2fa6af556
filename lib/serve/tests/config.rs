//! Configurations: what is read, what is refused and how, and what the engine is told.

use parm_config::{Config, ConfigError, Redundancy, schema};
use parm_serving::check;

/// A configuration of one model, with these fields and instances of both roles.
fn with(fields: &str) -> String {
    format!(
        r#"{{"models": [{{"name": "m", {fields}
            "instances": [{{"synthetic": {{}}, "roles": ["deployed"]}},
                          {{"synthetic": {{}}, "roles": ["parity-0"]}}]}}]}}"#
    )
}

const CODED: &str = r#""redundancy": {"policy": "coded"},"#;

/// A tensor.
const X: &str = r#"{"name": "x", "datatype": "FP32", "shape": [2]}"#;

/// A configuration with these limits.
fn limits(of: &str) -> String {
    with(CODED).replacen('{', &format!(r#"{{"limits": {{{of}}}, "#), 1)
}

fn refused(text: &str) -> String {
    let error = Config::parse(text).and_then(|config| check::check(&config)).unwrap_err();
    error.to_string()
}

#[test]
fn the_least_configuration_has_sensible_defaults() {
    let config = Config::parse(
        r#"{"models": [{"name": "m", "instances": [{"synthetic": {}, "roles": ["deployed"]}]}]}"#,
    );
    let config = config.unwrap();
    check::check(&config).unwrap();
    assert!(config.http.unwrap().ip().is_loopback() && config.grpc.unwrap().ip().is_loopback());
    let model = &config.models[0];
    assert_eq!(
        (model.version.as_str(), &model.redundancy, model.batch.max_size),
        ("1", &Redundancy::None, 1)
    );
    let engine = parm_config::engine_config(model).unwrap();
    assert_eq!((engine.deadline, engine.max_attempts), (1_000_000_000, 3));
    check::check(&Config::parse(&with(CODED)).unwrap()).unwrap();
}

#[test]
fn what_is_not_in_the_schema_is_refused_by_its_place() {
    for (text, expected) in [
        (r#"{"modles": []}"#, "modles"),
        (r#"{"models": [{"name": 3}]}"#, "models[0].name"),
        (
            r#"{"models": [{"name": "m", "instances": [{"remote": {"ulr": ""}}]}]}"#,
            "models[0].instances[0].remote",
        ),
        (r#"{"models": [{"name": "m", "redundancy": {"policy": "magic"}}]}"#, "models[0].redundancy"),
        (r#"{"models": [{"name": "m", "inputs": [{"name": "x", "datatype": "FP8", "shape": []}]}]}"#, "FP8"),
        (r#"{"models": []} {}"#, "after the configuration"),
        ("{", "line 1 column 1"),
    ] {
        let error = Config::parse(text).unwrap_err();
        assert!(matches!(error, ConfigError::Schema { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_policy_auto_that_cannot_be_is_refused() {
    for (text, expected) in [
        (
            with(r#""redundancy": {"policy": "auto", "coded": {"hedge": {}}},"#),
            "models[0].redundancy.coded.hedge: found a hedge of the code, expected redundancy.hedge",
        ),
        (
            with(r#""redundancy": {"policy": "auto", "coded": {"max_scale": 0.5}},"#),
            "models[0].redundancy.coded.max_scale: found 0.5",
        ),
        (with(r#""redundancy": {"policy": "auto", "max_calls": 0.5},"#), "found max_calls = 0.5"),
        (
            with(r#""redundancy": {"policy": "auto", "coded": {"code": {"name": "berrut", "k": 2}}},"#),
            "found the policy auto with a code that answers every query by decoding",
        ),
    ] {
        let error = Config::parse(&text).unwrap().check().unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn what_cannot_work_is_refused_with_what_was_found_and_expected() {
    let pooled = r#"{"models": [{"name": "m", "placement": "pooled", "instances": [INSTANCE]}]}"#;
    let apart = r#"{"models": [{"name": "m", "instances": [INSTANCE]}]}"#;
    let cases = [
        (r#"{"models": []}"#.to_owned(), "models: found none"),
        (r#"{"http": null, "grpc": null, "models": []}"#.to_owned(), "expected at least one"),
        (
            with("").replacen('{', "{\"limits\": {\"header_ms\": 18446744073709551615}, ", 1),
            "limits.header_ms: found 18446744073709552000, expected a time in ms",
        ),
        (apart.replace("INSTANCE", ""), "models[0].instances: found none"),
        (
            apart.replace("INSTANCE", r#"{"roles": ["deployed"]}"#),
            "expected one of remote, embedded and synthetic",
        ),
        (apart.replace("INSTANCE", r#"{"synthetic": {}}"#), "found no role"),
        (
            apart.replace("INSTANCE", r#"{"embedded": {"device": "gpu"}, "roles": ["deployed"]}"#),
            "embedded.device: found 'gpu', expected auto, cpu, cuda or cuda:N",
        ),
        (
            apart.replace("INSTANCE", r#"{"embedded": {}, "roles": ["deployed"]}"#),
            "models[0].instances[0]: found no file for the deployed",
        ),
        (apart.replace("INSTANCE", r#"{"synthetic": {}, "roles": ["boss"]}"#), "found the role 'boss'"),
        (apart.replace("INSTANCE", r#"{"synthetic": {}, "roles": ["parity-0"]}"#), "the code has 0 parities"),
        (
            apart.replace("INSTANCE", r#"{"synthetic": {}, "roles": ["cheap"]}"#),
            "found none with the role deployed",
        ),
        (
            apart.replace("INSTANCE", r#"{"synthetic": {}, "roles": ["deployed", "cheap"]}"#),
            "expected one where the placement is apart",
        ),
        (pooled.replace("INSTANCE", r#"{"synthetic": {}, "capacity": 0}"#), "found capacity 0"),
        (pooled.replace("INSTANCE", r#"{"synthetic": {"behavior": {"errors": 2}}}"#), "found errors = 2"),
        (with(r#""deadline_ms": -1,"#), "models[0].deadline_ms: found -1"),
        (with(r#""call_timeout_ms": 1e9,"#), "models[0].call_timeout_ms: found 1000000000"),
        (with(r#""deadline_ms": 0,"#), "found deadline = 0"),
        (with(r#""batch": {"max_size": 0},"#), "found max_batch = 0"),
        (with(r#""answer": {"when": "grace"},"#), "either ms or percentile"),
        (with(r#""answer": {"when": "grace", "ms": 1, "percentile": 2},"#), "either ms or percentile"),
        (with(r#""answer": {"when": "grace", "percentile": 101},"#), "found percentile = 101"),
        (with(r#""redundancy": {"policy": "cheap"},"#), "parity-0, the code has 0 parities"),
        (with(r#""redundancy": {"policy": "coded", "code": {"name": "sum", "k": 0}},"#), "found k = 0"),
        (
            with(r#""redundancy": {"policy": "coded", "code": {"name": "sum", "k": 2, "r": 2}},"#),
            "found none with the role parity-1",
        ),
        (
            with(
                r#""redundancy": {"policy": "coded", "code": {"name": "directory", "directory": "/nowhere"}},"#,
            ),
            "/nowhere/code.json",
        ),
        (
            with(r#""redundancy": {"policy": "coded", "calibration": "/nowhere.json"},"#),
            "models[0].redundancy.calibration: /nowhere.json: No such file",
        ),
        (with(r#""ejection": {"slowness": 0.5},"#), "slowness"),
        (
            with(r#""redundancy": {"policy": "coded", "max_scale": 0.5},"#),
            "models[0].redundancy.max_scale: found 0.5, expected a finite number from 1",
        ),
        (
            with(CODED).replacen('{', "{\"limits\": {\"passed_headers\": {\"names\": [\"X-A\"]}}, ", 1),
            "limits.passed_headers.names: found 'X-A', expected the name of a header in lower case",
        ),
        (
            with(CODED).replacen('{', "{\"limits\": {\"passed_headers\": {\"names\": [\"host\"]}}, ", 1),
            "limits.passed_headers.names: found 'host', which each call sets itself",
        ),
        (
            with(&format!(r#"{CODED} "faults": {{"racks": {{"count": 0}}}},"#)),
            "models[0].faults: found count = 0",
        ),
        (
            with(&format!(r#"{CODED} "overhead": {{"call": {{"distribution": "constant", "ms": -1}}}},"#)),
            "models[0].overhead: found ms = -1",
        ),
        (with(CODED).replace("\"m\"", "\"a/b\""), "expected a name without /"),
    ];
    for (text, expected) in cases {
        let found = refused(&text);
        assert!(found.contains(expected), "{text}\nsays: {found}\nexpected: {expected}");
    }
    let model = r#"{"name": "m", "default": true, "version": "V", "instances": [{"synthetic": {}, "roles": ["deployed"]}]}"#;
    let models = |a: &str, b: &str| {
        format!(
            r#"{{"models": [{}, {}]}}"#,
            model.replace("\"V\"", &format!("\"{a}\"")),
            model.replace("\"V\"", &format!("\"{b}\""))
        )
    };
    let twice = models("1", "1").replace("\"default\": true, ", "");
    assert!(refused(&twice).contains("found version 1 of 'm' twice"));
    assert!(refused(&models("1", "2")).contains("several default versions"));
}

#[test]
fn what_could_never_start_is_refused() {
    for (text, expected) in [
        (with(r#""version": "","#), "models[0].version: found '', expected a version without /"),
        (with(r#""version": "1/2","#), "models[0].version: found '1/2'"),
        (with(&format!(r#"{CODED} "inputs": [{X}, {X}],"#)), "models[0].inputs: found 'x' twice"),
        (with(&format!(r#"{CODED} "outputs": [{X}, {X}],"#)), "models[0].outputs: found 'x' twice"),
        (
            with(&format!(r#"{CODED} "inputs": [{}],"#, X.replace("\"x\"", "\"\""))),
            "found one without a name",
        ),
        (with(&format!(r#"{CODED} "inputs": [{}],"#, X.replace("[2]", "[0]"))), "found size 0 of 'x'"),
        (
            with(&format!(r#"{CODED} "inputs": [{X}], "outputs": [{}],"#, X.replace("FP32", "INT64"))),
            "models[0].redundancy: cannot code the output 'x' of INT64",
        ),
        (
            with(&format!(r#"{CODED} "inputs": [{X}], "outputs": [{}],"#, X.replace("[2]", "[-1]"))),
            "models[0].instances: synthetic instances need fixed shapes: variable_shape",
        ),
        (
            with(&format!(r#"{CODED} "inputs": [{}], "outputs": [{X}],"#, X.replace("FP32", "BYTES"))),
            "models[0].instances: synthetic instances need fixed shapes: datatype",
        ),
        (limits(r#""connections": 0"#), "limits.connections: found 0"),
        (limits(r#""requests": 0"#), "limits.requests: found 0"),
        (limits(r#""rows": 0"#), "limits.rows: found 0"),
        (limits(r#""body_bytes": 0"#), "limits.body_bytes: found 0"),
        (limits(r#""header_bytes": 0"#), "limits.header_bytes: found 0"),
        (limits(r#""header_ms": 0"#), "limits.header_ms: found 0"),
        (limits(r#""body_ms": 0"#), "limits.body_ms: found 0"),
        (limits(r#""idle_ms": 0"#), "limits.idle_ms: found 0"),
        (limits(r#""bytes": 1000"#), "limits.bytes: found 1000, expected at least body_bytes"),
        (
            with(CODED).replacen('{', r#"{"http": "127.0.0.1:7", "admin": "127.0.0.1:7", "#, 1),
            "found the address 127.0.0.1:7 twice",
        ),
    ] {
        let found = refused(&text);
        assert!(found.contains(expected), "{text}\nsays: {found}\nexpected: {expected}");
    }
}

#[test]
fn the_policy_of_an_approximate_model_needs_an_instance_for_it() {
    let text = r#"{"models": [{"name": "m", "redundancy": {"policy": "cheap"},
        "instances": [{"synthetic": {}, "roles": ["deployed"]}]}]}"#;
    assert!(refused(text).contains("found none with the role cheap"));
}

#[test]
fn paths_are_relative_to_the_file() {
    let folder = std::env::temp_dir().join(format!("parm-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("parm-serve.json");
    std::fs::write(&file, with(CODED).replacen('{', r#"{"keys": {"inference": "keys"}, "#, 1)).unwrap();
    assert_eq!(Config::load(&file).unwrap().keys.inference, Some(folder.join("keys")));
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(matches!(Config::load(&file).unwrap_err(), ConfigError::Io { .. }));
}

#[test]
fn the_schema_names_every_field_of_a_model() {
    let schema = serde_json::to_value(schema()).unwrap();
    let fields = &schema["$defs"]["Model"]["properties"];
    for field in ["name", "redundancy", "placement", "answer", "instances", "ejection"] {
        assert!(fields[field].is_object(), "{field}");
        let described = fields[field]["description"].is_string();
        assert!(described, "{field} has no description");
    }
}

/// What is in files is read where the configuration is checked, and only there: a server that is told to
/// read its configuration again says itself what is wrong.
#[test]
fn files_that_are_missing_or_something_else_are_found() {
    let folder = std::env::temp_dir().join(format!("parm-config-files-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    for (name, text) in [
        ("cert.pem", made.cert.pem()),
        ("key.pem", made.signing_key.serialize_pem()),
        ("other.pem", rcgen::KeyPair::generate().unwrap().serialize_pem()),
        ("keys", "secret\n".to_owned()),
        ("empty", String::new()),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let check = |top: &str, instance: &str| {
        let text = format!(
            r#"{{{top} "models": [{{"name": "m", "instances": [{{{instance} "roles": ["deployed"]}}]}}]}}"#
        );
        let config = Config::parse(&text).unwrap().relative_to(&folder).unwrap();
        check::check_files(&config).map_err(|error| error.to_string())
    };
    let remote = |fields: &str| format!(r#""remote": {{"url": "https://localhost", {fields}}},"#);
    let tls = |fields: &str| format!(r#""tls": {{{fields}}},"#);
    let good = remote(r#""ca": "cert.pem", "tls": {"certificate": "cert.pem", "key": "key.pem"}"#);
    check("", &good).unwrap();
    check(&tls(r#""certificate": "cert.pem", "key": "key.pem", "client_ca": "cert.pem""#), &good).unwrap();
    check(r#""keys": {"inference": "keys", "admin": "keys"},"#, &good).unwrap();
    for (top, instance, expected) in [
        (tls(r#""certificate": "gone", "key": "key.pem""#), good.clone(), "tls: "),
        (tls(r#""certificate": "empty", "key": "key.pem""#), good.clone(), "empty: found no certificate"),
        (tls(r#""certificate": "cert.pem", "key": "gone""#), good.clone(), "gone: "),
        (tls(r#""certificate": "cert.pem", "key": "cert.pem""#), good.clone(), "cert.pem: "),
        (tls(r#""certificate": "cert.pem", "key": "other.pem""#), good.clone(), "other.pem: "),
        (tls(r#""certificate": "cert.pem", "key": "key.pem", "client_ca": "gone""#), good.clone(), "gone: "),
        (tls(r#""certificate": "cert.pem", "key": "key.pem", "client_ca": "keys""#), good.clone(), "keys: "),
        (r#""keys": {"inference": "gone"},"#.to_owned(), good.clone(), "keys: "),
        (r#""keys": {"admin": "empty"},"#.to_owned(), good.clone(), "found no key"),
        (String::new(), remote(r#""ca": "gone""#), "models[0].instances[0].remote: "),
        (String::new(), remote(r#""ca": "empty""#), "empty: found no certificate"),
        (String::new(), remote(r#""tls": {"certificate": "gone", "key": "key.pem"}"#), "gone: "),
        (String::new(), remote(r#""tls": {"certificate": "cert.pem", "key": "other.pem"}"#), "other.pem: "),
        (String::new(), r#""synthetic": {},"#.to_owned(), "need inputs and outputs in the configuration"),
    ] {
        let found = check(&top, &instance).unwrap_err();
        assert!(found.contains(expected), "{top} {instance} says: {found}, expected: {expected}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
