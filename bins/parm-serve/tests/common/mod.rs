//! A server that runs as a process of its own.
#![allow(dead_code)] // each test file uses its part

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use parm_testkit::tool;
use parm_testkit::wait::{BOUND, until};

/// A server that runs, and where it listens for HTTP.
pub(crate) struct Server {
    pub(crate) process: Child,
    pub(crate) http: SocketAddr,
    pub(crate) log: std::sync::mpsc::Receiver<String>,
}

impl Server {
    pub(crate) fn start(config: &Path, options: &[&str]) -> Self {
        let any = ["--http", "127.0.0.1:0"];
        let http = if options.contains(&"--http") { &[][..] } else { &any };
        let mut process = Command::new(tool::folder().join("parm-serve"))
            .arg(config)
            .args(["--grpc", "127.0.0.1:0", "--log-format", "json", "--threads", "1"])
            .args(http)
            .args(options)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = std::sync::mpsc::channel();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        let listening = next(&log, "listening");
        let address = listening.split("\"http\":\"").nth(1).unwrap().split('"').next().unwrap();
        Self { http: address.parse().unwrap(), process, log }
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        ask(self.http, method, path, body)
    }

    pub(crate) fn ready(&self) {
        until("readiness", || self.ask("GET", "/v2/health/ready", "").0 == 200);
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

/// Sends one request; returns the status and the body of the response.
pub(crate) fn ask(to: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(to).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let code = reply.split(' ').nth(1).unwrap().parse().unwrap();
    (code, reply.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
}

impl Server {
    /// Waits until it holds a query.
    pub(crate) fn holds(&self) {
        until("the query", || self.ask("GET", "/status.json", "").1.contains("\"held\":1"));
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        until("the end of the server", || self.process.try_wait().unwrap().is_some());
        self.process.wait().unwrap()
    }

    /// Ends it as the system does when memory is short.
    pub(crate) fn kill(&mut self) {
        // One that has ended cannot be killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The next line of a log with this in it.
pub(crate) fn next(log: &std::sync::mpsc::Receiver<String>, what: &str) -> String {
    let mut others = Vec::new();
    loop {
        match log.recv_timeout(BOUND) {
            Ok(line) if line.contains(what) => return line,
            Ok(line) => others.push(line),
            Err(error) => panic!("{error}: no line with '{what}' among {others:#?}"),
        }
    }
}

/// Asks a model of floats for one row; its first output, or the status and the body.
pub(crate) fn infer(to: SocketAddr, model: &str, row: &str) -> Result<f64, String> {
    let size = row.split(',').count();
    let body = format!(
        r#"{{"inputs": [{{"name": "x", "shape": [1, {size}], "datatype": "FP32", "data": [{row}]}}]}}"#
    );
    let (code, body) = ask(to, "POST", &format!("/v2/models/{model}/infer"), &body);
    let value = body.split("\"data\":[").nth(1).and_then(|data| data.split([',', ']']).next()?.parse().ok());
    value.filter(|_| code == 200).ok_or_else(|| format!("{code} {body}"))
}
