//! A model server over HTTP/1.1 in JSON that sabotages: unrequested, doubled, swapped and refused answers,
//! garbage, and NaN where parity queries are asked. The ids of its answers are honest.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// Rows with an element of this magnitude or more are refused by all.
pub const TOO_LARGE: f64 = 1e5;

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It comes a second time at once.
    Twice,
    /// It comes a second time when the next request has come, before its answer.
    TwiceLater,
    /// It comes a second time after a while, when nothing is asked.
    Unrequested,
    /// It is that of the request before, on whatever connection.
    Swapped,
    /// It is a refusal.
    Refused,
    /// It is no HTTP.
    Garbage,
    /// Half of it comes, and the end.
    Half,
    /// The connection ends in its place.
    None,
    /// Interim replies come first, a few or without end.
    Interim,
    /// Parity queries are answered with NaN, others well.
    NotANumber,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Twice,
        Self::TwiceLater,
        Self::Unrequested,
        Self::Swapped,
        Self::Refused,
        Self::Garbage,
        Self::Half,
        Self::None,
        Self::Interim,
        Self::NotANumber,
    ];
}

/// A server that lives as long as the test's process. Its model adds the elements of each row of `x`, under any
/// name.
#[derive(Clone, Debug)]
pub struct Saboteur {
    /// Its address.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// None: it is honest.
    random: Option<Mutex<ChaCha8Rng>>,
    before: Mutex<Vec<u8>>,
    counts: [AtomicU64; Fault::ALL.len()],
}

impl Saboteur {
    /// Starts a server that sabotages a third of all answers, as a seed says; without one it is honest.
    ///
    /// # Panics
    /// If the machine has no free port.
    #[must_use]
    pub fn start(seed: Option<u64>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let random = seed.map(|seed| Mutex::new(ChaCha8Rng::seed_from_u64(seed)));
        let shared = Arc::new(Shared { random, before: Mutex::default(), counts: Default::default() });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                // How a connection ends is the client's to see.
                thread::spawn(move || shared.converse(&stream));
            }
        });
        Self { address, shared }
    }

    /// How often it did what.
    #[must_use]
    pub fn counts(&self) -> Vec<(Fault, u64)> {
        let count = |(fault, count): (Fault, &AtomicU64)| (fault, count.load(Ordering::Relaxed));
        Fault::ALL.into_iter().zip(&self.shared.counts).map(count).collect()
    }
}

impl Shared {
    fn fault(&self) -> Option<Fault> {
        let mut random = self.random.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        if random.random_range(0..3) > 0 {
            return None;
        }
        let index = random.random_range(0..Fault::ALL.len());
        self.counts[index].fetch_add(1, Ordering::Relaxed);
        Some(Fault::ALL[index])
    }

    fn converse(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut late = Vec::new();
        while let Some((path, body)) = read(&mut reader)? {
            if !path.ends_with("/infer") {
                stream.write_all(&reply(200, &json!({})))?;
                continue;
            }
            let fault = self.fault();
            // NaN is written as it is, which is no JSON.
            let request = serde_json::from_str(&String::from_utf8_lossy(&body).replace("NaN", "null"))?;
            let answer = answer(&request, fault == Some(Fault::NotANumber) && path.contains("parity"));
            let before = {
                let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::replace(&mut *before, answer.clone())
            };
            let mut out = std::mem::take(&mut late);
            match fault {
                Some(Fault::Twice) => out.extend(answer.repeat(2)),
                Some(Fault::TwiceLater) => {
                    out.extend(&answer);
                    late = answer;
                }
                Some(Fault::Unrequested) => {
                    out.extend(&answer);
                    stream.write_all(&out)?;
                    thread::sleep(Duration::from_millis(3));
                    out = answer;
                }
                Some(Fault::Swapped) if !before.is_empty() => out.extend(before),
                Some(Fault::Refused) => out.extend(reply(400, &json!({"error": "sabotage"}))),
                Some(Fault::Garbage) => out.extend([0xff, b'\r', b'\n', 0, 17]),
                Some(Fault::Half) => {
                    out.extend(&answer[..answer.len() / 2]);
                    return stream.write_all(&out);
                }
                Some(Fault::None) => return Ok(()),
                Some(Fault::Interim) => {
                    let interim = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
                    out.extend(interim.repeat(if path.len().is_multiple_of(2) { 3 } else { 50_000 }));
                    out.extend(answer);
                }
                _ => out.extend(answer),
            }
            stream.write_all(&out)?;
        }
        Ok(())
    }
}

/// Reads a request; its path and its body. None at the end of the connection.
fn read(reader: &mut impl BufRead) -> io::Result<Option<(String, Vec<u8>)>> {
    let (mut line, mut path, mut length) = (String::new(), String::new(), 0);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let text = line.trim_end().to_ascii_lowercase();
        if path.is_empty() {
            text.split(' ').nth(1).unwrap_or_default().clone_into(&mut path);
        } else if let Some(found) = text.strip_prefix("content-length:") {
            length = found.trim().parse().unwrap_or(0);
        } else if text.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some((path, body)))
}

/// The sums of the rows of a request, or NaN in their place.
fn answer(request: &Value, not_a_number: bool) -> Vec<u8> {
    let input = &request["inputs"][0];
    let rows = input["shape"][0].as_u64().unwrap_or(0) as usize;
    let values: Vec<f64> = input["data"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|value| value.as_f64().unwrap_or(f64::NAN))
        .collect();
    if values.iter().any(|value| value.abs() >= TOO_LARGE) {
        return reply(400, &json!({"error": "row out of range"}));
    }
    let sums = values.chunks(values.len() / rows.max(1)).map(|row| row.iter().sum::<f64>());
    // What is no number is null in JSON.
    let sums: Vec<Option<f64>> =
        sums.map(|sum| Some(sum).filter(|sum| sum.is_finite() && !not_a_number)).collect();
    let output = json!({"name": "y", "datatype": "FP32", "shape": [rows, 1], "data": sums});
    reply(200, &json!({"model_name": null, "id": request["id"], "outputs": [output]}))
}

fn reply(code: u16, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!("HTTP/1.1 {code} X\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
