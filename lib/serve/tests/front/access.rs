//! Who may ask for what: every route and every method, on all ports, with each key and with none.

use std::net::SocketAddr;

use crate::common::http::send;
use crate::common::server::Server;
use crate::raw::{call, connect};

const MODEL: &str = r#"{"name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}],
    "instances": [{"synthetic": {}, "roles": ["deployed"]}]}"#;

/// What a route or a method is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    All,
    Inference,
    View,
    Management,
}

/// How a server is configured.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools)] // options that are independent of each other
struct Case {
    inference: bool,
    admin: bool,
    address: bool,
    open: bool,
}

impl Case {
    /// What who shows a key is told: none if it is allowed.
    fn refusal(self, what: For, at_admin: bool, key: &str) -> Option<u16> {
        let with = |keys: &[&str]| (!keys.contains(&key)).then_some(401);
        match (what, self.inference, self.admin) {
            (For::All, ..) | (For::Inference, false, _) | (For::View, false, false) => None,
            (For::Inference, true, _) | (For::View, true, false) => with(&["user"]),
            (For::View, true, true) => with(&["user", "boss"]),
            (For::View, false, true) | (For::Management, _, true) => with(&["boss"]),
            (For::Management, _, false) => (!at_admin && !self.open).then_some(403),
        }
    }
}

/// The routes of the server's source: those that it forgot here would not be walked.
fn routes() -> Vec<(String, &'static str, For)> {
    let source = include_str!("../../src/server/routes.rs");
    let routes = source.split(".route(\"").skip(1).map(|rest| {
        let (path, rest) = rest.split_once("\", ").unwrap();
        let method = if rest.starts_with("get(") { "GET" } else { "POST" };
        let what = match path {
            "/v2/health/live" | "/v2/health/ready" => For::All,
            "/" | "/status.json" | "/metrics" | "/v2/repository/index" => For::View,
            _ if path.starts_with("/v2/repository/") || path.ends_with("/resume") => For::Management,
            _ => For::Inference,
        };
        // A model that is not there is not unloaded.
        let model = if what == For::Management { "nix" } else { "m" };
        (path.replace("{model}", model).replace("{version}", "1"), method, what)
    });
    let routes: Vec<_> = routes.collect();
    assert_eq!(routes.len(), 22, "{routes:?}");
    routes
}

fn methods() -> Vec<(String, For)> {
    let source = include_str!("../../../oip/proto/inference.proto");
    let methods = source.split("rpc ").skip(1).map(|rest| {
        let name = rest.split(['(', ' ']).next().unwrap();
        let what = match name {
            "ServerLive" | "ServerReady" => For::All,
            "RepositoryIndex" => For::View,
            "RepositoryModelLoad" | "RepositoryModelUnload" => For::Management,
            _ => For::Inference,
        };
        (format!("inference.GRPCInferenceService/{name}"), what)
    });
    let mut methods: Vec<_> = methods.collect();
    methods.push(("grpc.health.v1.Health/Check".to_owned(), For::All));
    methods.push(("grpc.health.v1.Health/Watch".to_owned(), For::All));
    methods
}

async fn walk_http(case: Case, at: SocketAddr, at_admin: bool) {
    for (path, method, what) in routes() {
        let is_admins = matches!(what, For::View | For::Management);
        let is_here = if case.address { is_admins == at_admin } else { true };
        for key in ["", "user", "boss", "other"] {
            let headers = [("x-api-key", key)];
            let headers = if key.is_empty() { &[][..] } else { &headers };
            let reply = send(at, method, &path, headers, b"").await;
            let place = format!("{case:?}, {method} {path} at {at}, key '{key}': {reply:?}");
            if !is_here {
                assert!(reply.code == 404 && reply.error().starts_with("found no route"), "{place}");
                continue;
            }
            if let Some(code) = case.refusal(what, at_admin, key) {
                assert_eq!(reply.code, code, "{place}");
            } else {
                assert!(![401, 403, 405].contains(&reply.code), "{place}");
                assert!(!String::from_utf8_lossy(&reply.body).contains("found no route"), "{place}");
            }
        }
        for other in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
            if other != method {
                let reply = send(at, other, &path, &[], b"").await;
                let expected = if is_here { 405 } else { 404 };
                assert_eq!(reply.code, expected, "{case:?}, {other} {path} at {at}: {reply:?}");
            }
        }
    }
}

async fn walk_grpc(case: Case, at: SocketAddr) {
    let mut client = connect(at).await;
    for (method, what) in methods() {
        for key in ["", "user", "boss", "other"] {
            let message: &[u8] = match &method {
                // Models by the name "nix".
                method if method.ends_with("ModelLoad") || method.ends_with("ModelUnload") => {
                    b"\0\0\0\0\x05\x12\x03nix"
                }
                _ => b"\0\0\0\0\0",
            };
            let status = call(&mut client, &method, key, message, true).await;
            let place = format!("{case:?}, {method}, key '{key}'");
            // Of all that the protocol has, these are what this server has not.
            let is_missing =
                ["SharedMemory", "TraceSetting", "LogSettings"].iter().any(|name| method.contains(name));
            assert_eq!(status == "12", is_missing, "{place}: {status}");
            if is_missing {
                continue;
            }
            match case.refusal(what, false, key) {
                Some(401) => assert_eq!(status, "16", "{place}"),
                Some(_) => assert_eq!(status, "7", "{place}"),
                None => assert!(status != "16" && status != "7", "{place}: {status}"),
            }
        }
    }
}

#[tokio::test]
async fn every_route_and_method_asks_for_the_right_key() {
    let folder = std::env::temp_dir().join(format!("parm-access-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let [user, boss] = ["user", "boss"].map(|name| {
        let file = folder.join(name);
        std::fs::write(&file, format!("{name}\n")).unwrap();
        file
    });
    for number in 0..16_u8 {
        let [inference, admin, address, open] = [1, 2, 4, 8].map(|bit| number & bit != 0);
        let case = Case { inference, admin, address, open };
        let mut keys = Vec::new();
        keys.extend(inference.then(|| format!(r#""inference": {user:?}"#)));
        keys.extend(admin.then(|| format!(r#""admin": {boss:?}"#)));
        let mut more = format!(r#""keys": {{{}}},"#, keys.join(", "));
        more += if address { r#""admin": "127.0.0.1:0","# } else { "" };
        more += if open { r#""management": "open","# } else { "" };
        let server = Server::start(MODEL, &more).await;
        walk_http(case, server.http(), false).await;
        if let Some(admin) = server.at.admin {
            walk_http(case, admin, true).await;
        }
        let grpc = server.at.grpc.unwrap();
        walk_grpc(case, grpc).await;
        // The ports of HTTP have no methods, and that of gRPC no routes.
        for at in [server.at.http, server.at.admin].into_iter().flatten() {
            for (method, _) in methods() {
                let reply = send(at, "POST", &format!("/{method}"), &[("x-api-key", "boss")], b"").await;
                assert_eq!(reply.code, 404, "{case:?}, {method} at {at}: {reply:?}");
            }
        }
        for (path, method, _) in routes() {
            let status = connect(grpc).await.send_request(
                http::Request::builder().method(method).uri(format!("http://x{path}")).body(()).unwrap(),
                true,
            );
            let answer = status.unwrap().0.await.unwrap();
            // UNIMPLEMENTED, whoever asks.
            let code = answer.headers().get("grpc-status").map(|code| code.to_str().unwrap().to_owned());
            assert_eq!(code.as_deref(), Some("12"), "{case:?}, {method} {path}: {answer:?}");
        }
        assert!(server.stop().await);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_is_open_is_said() {
    let said = |more: &str| {
        let config = crate::common::server::config(MODEL, more);
        config.open_to_all().join("\n")
    };
    let open = said("");
    assert!(open.contains("everybody: inference") && open.contains("everybody: metrics"), "{open}");
    assert!(!open.contains("loading"), "{open}");
    assert!(said(r#""management": "open","#).contains("loading and unloading models"));
    let at = said(r#""admin": "127.0.0.1:7","#);
    assert!(at.contains("index of models (127.0.0.1:7)") && at.contains("coding (127.0.0.1:7)"), "{at}");
    assert_eq!(
        said(r#""keys": {"inference": "k", "admin": "k"}, "admin": "127.0.0.1:7", "management": "open","#),
        ""
    );
    assert_eq!(said(r#""keys": {"inference": "k"},"#), "");
    let mutual = said(r#""tls": {"certificate": "c", "key": "k", "client_ca": "a"},"#);
    assert!(mutual.contains("open to clients with a certificate: inference"), "{mutual}");
}
