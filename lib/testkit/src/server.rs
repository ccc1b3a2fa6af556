//! An HTTP server on this machine with given answers, also wrong ones.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A server that lives as long as the test's process.
#[derive(Debug)]
pub struct Server {
    /// Its address, as `http://127.0.0.1:PORT`.
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

/// A request of a client.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The path, with its slash.
    pub path: String,
    headers: Vec<(String, String)>,
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// These bytes, then the end of the connection.
    Bytes(Vec<u8>),
    /// These bytes, then nothing.
    Hang(Vec<u8>),
}

impl Request {
    /// The value of a header, whose name is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

impl Server {
    /// Starts a server with these answers.
    ///
    /// # Panics
    /// If the machine has no free port.
    pub fn start(answer: impl Fn(&Request) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            let mut open = Vec::new();
            for mut stream in listener.incoming().flatten() {
                let request = read(&stream);
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
                // The client may close the connection early.
                match answer(&request) {
                    Answer::Bytes(bytes) => drop(stream.write_all(&bytes)),
                    Answer::Hang(bytes) => {
                        let _ = stream.write_all(&bytes);
                        open.push(stream);
                    }
                }
            }
        });
        Self { url, requests }
    }

    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn read(stream: &TcpStream) -> Request {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let headers = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_lowercase(), value.trim().to_owned()))
    });
    Request { path, headers: headers.collect() }
}

/// The bytes of an answer, as `200 OK`. Its length is that of the body, unless the headers have another.
#[must_use]
pub fn answer(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let length = [("Content-Length", &*body.len().to_string())];
    let stated = headers.iter().any(|(name, _)| *name == "Content-Length");
    let headers = headers.iter().chain(if stated { &[][..] } else { &length[..] });
    let headers: String = headers.flat_map(|(name, value)| [name, ": ", value, "\r\n"]).collect();
    [format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n").as_bytes(), body].concat()
}
